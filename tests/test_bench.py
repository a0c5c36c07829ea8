"""The benchmark: what it makes of numbers, and one small round through the script itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
if not (SCRIPTS / "benchmark").is_dir():
    pytest.skip("the benchmark is not part of the source distribution", allow_module_level=True)


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def report():
    from benchmark import report

    return report


@pytest.fixture
def claims():
    from benchmark import claims

    return claims


def rounds_of(**seconds):
    """Rounds from each competitor's times, one per round; None if it did not answer."""
    return [
        {
            name: {"error": "no"} if time is None else {"seconds": time}
            for name, time in zip(seconds, times, strict=True)
        }
        for times in zip(*seconds.values(), strict=True)
    ]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def section_of(*rounds, spreads=(), **about):
    """A section of a record from rounds of answers; all rounds are quiet unless `spreads` says otherwise."""
    from benchmark.record import Section

    machine = {"cpu": "EPYC", "cores": 2, "memory": "24 GiB", "system": "Linux", "python": "3.12.1"}
    default = {
        "commit": "a" * 40,
        "changes": False,
        "code": "0",
        "machine": machine,
        "versions": {"own": {"mxnet": "1"}},
    }
    default |= {"options": {"quick": False, "threads": None}, "against": None}
    section = Section(default | about, ["scripts/bench --workload a"])
    for number, (answers, spread) in enumerate(zip(rounds, spreads or [0.01] * len(rounds), strict=True), 1):
        each = {"number": number, "date": "2026-11-27T10:00:00+00:00", "commit": "a" * 40, "calibration": {}}
        section.rounds.append(each | {"spread": spread, "counted": spread < 0.03, "answers": answers})
    return section


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians(report):
    rounds = rounds_of(ours=[1.0, 10.0, 4.0], torch=[3.0, 20.0, 4.0])
    assert report.interval(rounds, "torch", "ours") == report.Interval(2.0, 1.0, 3.0)
    assert [row.ratio.median for row in report.rows("a", rounds)] == [1.0, 2.0]
    assert str(report.interval(rounds, "torch", "ours")) == "2.00 [1.00, 3.00]"


def test_a_ratio_leaves_out_rounds_in_which_one_of_the_two_failed(report):
    rounds = rounds_of(ours=[1.0, None, 4.0], torch=[3.0, 20.0, 4.0])
    assert report.interval(rounds, "torch", "ours") == report.Interval(2.0, 1.0, 3.0)
    assert report.interval(rounds, "keras", "ours") is None


def test_a_row_has_the_median_the_range_and_how_often_it_failed(report):
    (row,) = report.rows("a", rounds_of(torch=[3.0, None, 1.0, 2.0]))
    assert (row.seconds, row.rounds, row.ratio) == (report.Interval(2.0, 1.0, 3.0), 3, None)
    assert row.note == "failed in 1 of 4 rounds"


def test_one_that_never_answered_has_its_error_as_a_note(report):
    (row,) = report.rows("a", rounds_of(torch=[None, None]))
    assert (row.seconds, row.note, row.counts) == (None, "no", False)


def test_one_that_does_not_reach_our_loss_is_flagged_and_counts_for_no_goal(report, claims):
    answers = {
        "ours": {"seconds": 1.0, "loss": 0.30},
        "near": {"seconds": 9.0, "loss": 0.37},
        "torch": {"seconds": 9.0, "loss": 0.39},
        "broken": {"seconds": 9.0, "loss": float("nan")},
    }
    report.mark_learning(answers, "ours", chance=0.69)
    assert [answer["learns"] for answer in answers.values()] == [True, True, False, False]
    rows = {row.name: row for row in report.rows("a", [answers])}
    assert rows["torch"].note == "does not learn (loss 0.390)"
    assert not rows["torch"].counts
    assert rows["near"].counts
    verdict = claims.judge(claims.Goal("a", "ours", "torch", 0.5), [answers])
    assert verdict.measured.median == pytest.approx(1 / 9)
    assert verdict.met is None
    assert verdict.words.startswith("not counted: torch does not learn")


def test_a_reference_that_does_not_learn_does_not_excuse_the_others(report):
    answers = {"ours": {"seconds": 1.0, "loss": 0.69}, "torch": {"seconds": 1.0, "loss": 0.68}}
    report.mark_learning(answers, "ours", chance=0.69)
    assert [answer["learns"] for answer in answers.values()] == [False, False]


def test_one_bad_round_of_three_is_told_and_does_not_exclude(report):
    rounds = [{"torch": {"seconds": 1.0, "loss": 0.5, "learns": learns}} for learns in (True, False, True)]
    (row,) = report.rows("d", rounds)
    assert row.counts
    assert row.note == "loss 0.500; did not reach our loss in 1 of 3 rounds"
    (row,) = report.rows("d", rounds[:2])
    assert not row.counts


def test_all_trainings_fit_into_one_table(report):
    def answers(torch, sklearn, learns=True):
        others = {"torch": torch, "sklearn": sklearn}
        found = {"ours": {"seconds": 0.001}} | {name: {"seconds": time} for name, time in others.items() if time}
        found["torch"] |= {"loss": 0.6, "learns": learns}
        return found

    results = {"a": [answers(0.002, 0.0005)], "d": [answers(0.1, None, learns=False)], "e": [answers(1, 1)]}
    head, _, *lines = report.compact(results, {"torch": "torch: PyTorch, DataLoader"}).splitlines()
    assert head.count("|") == 4
    assert lines == [
        "| PyTorch, DataLoader | 2 ms, 2.00 [2.00, 2.00] × | does not learn |",
        "| ours | 1 ms [1 ms, 1 ms] | 1 ms [1 ms, 1 ms] |",
        "| sklearn | 500 µs, 0.50 [0.50, 0.50] × | – |",
    ]


def test_a_goal_is_met_up_to_its_bound_and_by_the_median(claims):
    goal = claims.Goal("a", "ours", "torch", 0.25)

    def judged(*ours):
        verdict = claims.judge(goal, rounds_of(ours=list(ours), torch=[4.0] * len(ours)))
        return verdict.met, verdict.words

    assert judged(1.0) == (True, "met")
    assert judged(3.0) == (False, "not met")
    assert judged(0.9, 1.0, 1.1) == (True, "met by the median, not by every round")
    assert judged(0.9, 1.1, 1.2) == (False, "not met by the median, met in some rounds")
    assert claims.judge(goal, rounds_of(ours=[1.0])).words == "not measured"


def test_measurements_that_something_else_disturbed_are_named(report):
    rounds = [{"torch": {"seconds": 1.0, "others": others}} for others in (0.0, 0.9, 1.2)]
    assert report.rows("a", rounds)[0].note == "disturbed in 2 of 3 rounds"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(2.0, "2 s"), (0.0123, "12.3 ms"), (0.123, "123 ms"), (110e-6, "110 µs"), (3.4e-8, "34 ns"), (-2e-5, "-20 µs")],
)
def test_times_are_shown_in_a_unit_that_suits_them(report, seconds, shown):
    assert report.show(seconds) == shown


def test_every_goal_is_about_competitors_that_exist(claims):
    from benchmark import earlier
    from benchmark.competitors import BY_NAME

    known = BY_NAME | {one.name: one for one in earlier.competitors(claims.BEFORE)}
    for goal in claims.GOALS:
        if goal.workload in "abcdlmn":
            for name in (name.partition(",")[0] for name in (goal.row, goal.than)):
                assert known[name].goal
                assert known[name].takes_part(goal.workload)


def test_the_loss_of_logits_is_the_cross_entropy_in_float64(report):
    import numpy as np
    from benchmark.workloads import cross_entropy

    logits, labels = np.array([2.0, -1.0, 500.0]), np.array([1.0, 1.0, 0.0])
    probability = 1 / (1 + np.exp(-logits[:2]))
    assert cross_entropy(logits, labels) == pytest.approx((-np.log(probability).sum() + 500) / 3)


# ---- quiet rounds ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(monkeypatch):
    """A plan with one measurement per round, the calibration loop's times and the answers as given."""
    from benchmark import rounds
    from benchmark.processes import Surroundings

    def make(loop, answers):
        times, given = iter(loop), iter(answers)
        monkeypatch.setattr(rounds.Plan, "_answers", lambda self, *_: {"x": self._measured("x", lambda: next(given))})
        nowhere = Surroundings(Path("p"), Path("p"))
        return rounds.Plan(nowhere, [], False, 2, lambda _: None, lambda: next(times))

    return make


def test_a_disturbed_measurement_is_repeated_and_the_quietest_counts(plan):
    answers = [{"seconds": n, "others": 0.0} for n in (1.0, 2.0, 3.0)]
    found = plan([1.0, 1.10, 1.12, 9.0], answers).round("a", 1)
    assert found["answers"]["x"]["seconds"] == 2.0
    assert found["calibration"] == {"x": [1.10, 1.12]}
    assert found["spread"] == pytest.approx(0.02 / 1.11)
    answers = [{"seconds": n, "others": others} for n, others in ((1.0, 0.9), (2.0, 0.5), (3.0, 0.7))]
    assert plan([1.0] * 4, answers).round("a", 1)["answers"]["x"]["seconds"] == 2.0


def test_the_calibration_loop_takes_what_it_should():
    from benchmark import calibration

    assert 0.01 < calibration.seconds(1) < 2
    assert calibration.spread([1.0, 1.03, 1.0]) == pytest.approx(0.03)
    assert calibration.spread([]) == 0


def measured(monkeypatch, tmp_path, spreads, *arguments):
    """Runs `main` with rounds whose spreads are given; returns its exit code and how many rounds were measured."""
    import benchmark.__main__ as command
    from benchmark.rounds import Plan

    left, done = iter(spreads), []

    def one(self, key, number):
        done.append(number)
        names = [one.name for one in self.competitors if one.takes_part(key)]
        answers = {name: {"seconds": 1.0 + 0.1 * place + number} for place, name in enumerate(names)}
        return {"number": number, "calibration": {}, "spread": next(left), "answers": answers}

    monkeypatch.setattr(Plan, "round", one)
    monkeypatch.chdir(tmp_path)
    return command.main(["--workload", "a", "--competitors", "ours,ours-step", *arguments]), done


def test_rounds_that_are_not_quiet_are_dropped_and_tried_again(monkeypatch, tmp_path, capsys):
    code, done = measured(monkeypatch, tmp_path, [0.01, 0.05, 0.029, 0.04, 0.0], "--rounds", "3")
    assert (code, done) == (0, [1, 2, 3, 4, 5])
    assert "2 of 5 rounds (40%) were dropped" in capsys.readouterr().out
    (section,) = json.loads((tmp_path / "bench-results" / "results.json").read_text())["workloads"].values()
    assert [each["counted"] for each in section["rounds"]] == [True, False, True, False, True]


def test_a_machine_that_is_never_quiet_gets_no_intervals(monkeypatch, tmp_path, capsys):
    code, done = measured(monkeypatch, tmp_path, [0.5] * 6, "--rounds", "2")
    assert (code, len(done)) == (1, 6)
    out = capsys.readouterr().out
    assert "(a) no result: 0 of 2 rounds count. 6 of 6 rounds (100%) were dropped" in out
    assert "[" not in out
    code, done = measured(monkeypatch, tmp_path, [], "--rounds", "2", "--noisy")
    assert (code, done) == (0, []), "the rounds are there, and now count"
    assert "NOISY" in capsys.readouterr().out


def test_a_further_call_measures_what_is_missing_or_says_why_it_starts_over(monkeypatch, tmp_path, capsys):
    assert measured(monkeypatch, tmp_path, [0.0], "--rounds", "1") == (0, [1])
    assert measured(monkeypatch, tmp_path, [0.0, 0.0], "--rounds", "3") == (0, [2, 3])
    assert measured(monkeypatch, tmp_path, [], "--rounds", "3") == (0, [])
    capsys.readouterr()
    assert measured(monkeypatch, tmp_path, [0.0], "--rounds", "1", "--threads", "1") == (0, [1])
    assert "(a) starts over" in (said := capsys.readouterr().err)
    assert "options: threads was None and is 1" in said
    kept = json.loads((tmp_path / "bench-results" / "earlier-results.json").read_text())
    assert len(kept["workloads"]["a"]["rounds"]) == 3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"code": "1", "commit": "b" * 40}, "the code has changed from aaaaaaa to bbbbbbb"),
        ({"code": "1", "changes": True}, "the code has changed from aaaaaaa to aaaaaaa with changes"),
        ({"commit": "b" * 40}, ""),
        ({"machine": {"cores": 4}}, "machine: cpu was EPYC and is None, cores was 2 and is 4"),
        ({"versions": {"own": {"mxnet": "1"}, "peers": {"torch": "2"}}}, ""),
        ({"versions": {"own": {"mxnet": "2"}}}, "versions: own was {'mxnet': '1'} and is {'mxnet': '2'}"),
        ({"against": "c" * 40}, f"against was nothing and is {'c' * 40}"),
    ],
)
def test_rounds_are_continued_for_the_same_code_and_machine_only(changed, why):
    from benchmark.record import why_over

    old = section_of().about
    assert why_over(old, old | changed).startswith(why)
    assert bool(why_over(old, old | changed)) == bool(why)


# ---- claims and pages ------------------------------------------------------------------------------------------------


def test_claims_that_no_longer_hold_are_named(claims):
    old = rounds_of(ours=[1.09, 1.08, 1.10], torch=[5.0] * 3, **{"ours-step": [1.0] * 3})
    new = rounds_of(ours=[1.14, 1.2, 1.31], torch=[5.2, 5.5, 6.0], **{"ours-step": [1.0] * 3})
    found = claims.check({"a": section_of(*old)}, {"a": section_of(*new)})
    broken = [str(one) for one in found if one.holds is False]
    assert broken == [
        "NO LONGER HOLDS: (a) ours takes at most 1.1 × ours-step: measured 1.20 [1.14, 1.31], not met",
        "NO LONGER HOLDS: (a) ours-step takes 0.92 [0.91, 0.93] × ours: measured 0.83 [0.76, 0.88]",
    ]
    assert "holds: (a) torch takes 4.59 [4.55, 4.63] × ours: measured 4.58 [4.56, 4.58]" in map(str, found)
    same = claims.check({"a": section_of(*old)}, {"a": section_of(*old)})
    assert {one.holds for one in same} == {True, None}
    assert all(one.holds is not False for one in claims.check({"a": section_of(*new)}, {"a": section_of(*new)}))


def test_a_goal_that_was_never_met_is_not_named_again(claims):
    rounds = rounds_of(ours=[2.0], **{"ours-step": [1.0]})
    assert [one.holds for one in claims.check({"a": section_of(*rounds)}, {"a": section_of(*rounds)})].count(False) == 0
    assert [one.holds for one in claims.check({}, {"a": section_of(*rounds)})].count(False) == 1


def test_check_takes_a_result_file(tmp_path, monkeypatch, capsys):
    import benchmark.__main__ as command
    from benchmark import pages, record

    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    old, new = (section_of(*rounds_of(ours=[time], **{"ours-step": [1.0]})) for time in (1.05, 1.5))
    record.write(tmp_path / pages.RECORD, {"a": old})
    record.write(tmp_path / "new.json", {"a": new})
    assert command.main(["--check", str(tmp_path / "new.json")]) == 1
    assert "NO LONGER HOLDS: (a) ours takes at most 1.1 × ours-step" in capsys.readouterr().out
    record.write(tmp_path / "new.json", {"a": old})
    assert command.main(["--check", str(tmp_path / "new.json")]) == 0
    (tmp_path / "new.json").write_text('{"schema": 1}')
    assert command.main(["--check", str(tmp_path / "new.json")]) == 2


def test_a_result_is_written_between_the_markers_and_other_workloads_stay(tmp_path):
    from benchmark import pages

    (tmp_path / "docs" / "images").mkdir(parents=True)
    blocks = "".join(f"<!-- benchmark: {name} -->\nold 1.09\n<!-- end of benchmark -->\n" for name in pages.BLOCKS)
    for page in (pages.README, pages.DOCS):
        (tmp_path / page).write_text(f"before\n{blocks}after\n")
    rounds = rounds_of(ours=[1.2e-4, 1.3e-4], torch=[5e-4] * 2, **{"ours-step": [1e-4] * 2})
    for each in rounds:
        each["ours"] |= {"ordinary": 1.1e-4, "last": 4.1e-4, "epochs": [1.0] * 9}
        each["ours-step"] |= {"ordinary": 1e-4, "last": 1e-4}
    record = pages.put(
        {"d": section_of(*rounds_of(ours=[1e-2]))}, {"a": section_of(*rounds, spreads=[0.5, 0.01])}, tmp_path
    )
    record["a"].recount(noisy=True)
    record = pages.put(record, {}, tmp_path)
    text = (tmp_path / pages.README).read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "1.09" not in text
    assert "500 µs, 4.01 [3.85, 4.17] ×" in text
    assert "commit aaaaaaa, 2026-11-27" in text
    assert "**Noisy" in text
    assert "| (a) | 1.25 [1.20, 1.30] | 1.10 [1.10, 1.10] | +0.10 |" in text
    assert "epochs" not in (tmp_path / pages.RECORD).read_text()
    assert pages.filled(text, record) == text
    assert pages.source(record) in (tmp_path / pages.PICTURE).read_text()


def test_readme_docs_and_picture_agree_with_the_record():
    from benchmark import pages, record

    recorded = record.read(ROOT / pages.RECORD)
    for page in (pages.README, pages.DOCS):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert pages.MARKER.search(text)
        assert pages.filled(text, recorded) == text, f"run scripts/bench --pages, which writes {page}"
        text = pages.MARKER.sub("", text).partition(HISTORY)
        assert typed_by_hand(text[0] + text[2].partition("\n## ")[2]) == [], "scripts/bench --write writes results"
    if any(key in pages.TRAINING for key in recorded):
        assert pages.source(recorded) in (ROOT / pages.PICTURE).read_text(encoding="utf-8")
    for key, section in recorded.items():
        assert not section.about["changes"], f"({key}) names the commit that was measured"
        assert section.commands


HISTORY = "### Why this page once said 1.09"
"""A section about values that were typed by hand."""


def typed_by_hand(text):
    """Times per step and ratios of times outside of the blocks."""
    import re

    return [found[0] for found in re.finditer(r"\b\d[\d.,]* (µs|ns)\b|\b\d+(\.\d+)?×|\b\d+ images per second", text)]


# ---- many categories -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """The files of a small table with many categories, and what the jobs say of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        from benchmark import categorical_data

        folder = tmp_path_factory.mktemp("clicks")
        return folder, categorical_data.save(3000, folder, held_out=1000, texts=(20,))


def test_vowpal_wabbit_gets_the_same_rows_and_buckets(clicks):
    import numpy as np
    from benchmark.categorical_data import buckets_of

    folder, _ = clicks
    numbers, ids, labels = (np.load(folder / f"train-{name}.npy") for name in ("numbers", "ids", "labels"))
    ids = buckets_of(ids, 20)
    lines = (folder / "train-20.txt").read_text().splitlines()
    assert len(lines) == len(labels)
    for line, *row in zip(lines[::500], numbers[::500], ids[::500], labels[::500], strict=True):
        label, first, second = line.split("|")
        given = [float(word.partition(":")[2]) for word in first.split()[1:]]
        np.testing.assert_allclose(given, row[0], rtol=1e-6)
        assert second.split() == ["c", *map(str, row[1])]
        assert int(label) == 2 * row[2] - 1


def test_the_table_has_a_heavy_tail_and_the_true_probabilities_are_the_best_possible(clicks):
    import numpy as np
    from benchmark import categorical_data as data

    table, again = data.make(4000), data.make(4000)
    np.testing.assert_array_equal(table.ranks, again.ranks)
    assert data.sizes().sum() == data.VOCABULARY
    largest = table.ranks[:, -1]
    assert (largest < data.sizes()[-1]).all()
    share = 1 / np.log2(data.sizes()[-1] + 1)
    assert (largest == 0).mean() == pytest.approx(share, rel=0.3), "ranks as frequent as 1 / rank"
    assert np.unique(largest, return_counts=True)[1].tolist().count(1) > 1000
    p = table.probabilities
    assert (table.labels - p).mean() == pytest.approx(0, abs=0.03)
    _, about = clicks
    assert 0.3 < about["best"] < about["chance"] < 0.7


def test_buckets_are_even_and_differ_by_column():
    import numpy as np
    from benchmark import categorical_data as data

    texts = data.texts_of(25, np.arange(data.sizes()[25]))
    ids = data.hashed(25, texts)
    assert texts.value_counts().field("counts").unique().to_pylist() == [1]
    expected = 2**16 * (1 - np.exp(-len(ids) / 2**16))
    assert len(np.unique(data.buckets_of(ids, 16))) == pytest.approx(expected, rel=0.01), "as even as random ones"
    assert (data.hashed(24, texts[:1000]) != ids[:1000]).mean() > 0.99


def test_the_search_ends_between_two_worse_rates():
    from benchmark.search import walk

    for best in (0.25, 1.0, 16.0):
        tries = walk(lambda rate, best=best: abs(rate - best), start=1.0)
        losses = [loss for _, loss in tries]
        place = losses.index(min(losses))
        assert tries[place][0] == best
        assert 0 < place < len(tries) - 1
    assert walk(lambda rate: float("nan") if rate > 1 else rate, start=1.0)[0][0] < 1, "a loss that is not a number"


def test_every_competitor_has_a_searched_rate_and_a_row_for_each_number_of_buckets():
    from benchmark import categorical_rounds as rounds
    from benchmark.competitors import LIST
    from benchmark.search import STARTS

    for key in "mn":
        mine = [one for one in LIST if one.takes_part(key)]
        jobs = rounds.jobs(key, mine, {"rows": 1})
        assert len(jobs) == len(mine) * (len(rounds.SWEEP) if key == "n" else 1)
        assert {rounds.SAME_RATE.get(one.name, one.name) for one in mine} <= STARTS.keys()
        assert all(job["rate"] > 0 for _, job in jobs.values())


def test_cost_is_compared_with_the_fewest_buckets_of_the_same_competitor(report):
    from benchmark.categorical_rounds import compare

    answers = {"a, 2^16": {"seconds": 2.0}, "a, 2^24": {"seconds": 3.0}, "b, 2^24": {"seconds": 9.0}}
    compare(answers)
    assert [answer.get("to_fewest") for answer in answers.values()] == [None, 1.5, None]
    assert report.rows("n", [answers])[1].note == "1.50 [1.50, 1.50] × the cost with the fewest buckets"


@pytest.fixture
def categorical(monkeypatch, tmp_path):
    """One small round of a workload with many categories, measured in this process."""
    from benchmark import categorical, rounds
    from benchmark.competitors import BY_NAME
    from benchmark.processes import Surroundings

    def answer_of(module, job, *_, **__):
        assert module == "categorical"
        path, answer = tmp_path / "job.json", tmp_path / "answer.json"
        path.write_text(json.dumps({**job, "folder": str(tmp_path), "answer": str(answer)}))
        categorical.main(str(path))
        return {**json.loads(answer.read_text()), "others": 0.0}

    def answers(key, *names):
        competitors = [BY_NAME[name] for name in names]
        nowhere = Surroundings(Path("p"), Path("p"))
        plan = rounds.Plan(nowhere, competitors, True, 0, lambda _: None, lambda: 1.0, rows=3000)
        return plan.round(key, 1)["answers"]

    monkeypatch.setattr(rounds, "answer_of", answer_of)
    return answers


def test_many_categories_are_trained_on_by_the_step_and_by_fit(categorical, report):
    names = ["ours-step-ftrl", "ours-fit-ftrl"]
    answers = categorical("m", *names)
    assert list(answers) == names
    assert [answer.get("error") for answer in answers.values()] == [None] * 2
    step, fitted = answers.values()
    assert step["loss"] == pytest.approx(fitted["loss"], rel=1e-3), "the same rows and updates"
    assert step["learns"]
    assert min(step["above"], step["seconds"], step["cpu"], step["encoding"]) > 0
    assert "above the best possible; " in report.rows("m", [answers])[0].note


def test_cost_is_measured_for_each_number_of_buckets(categorical):
    answers = categorical("n", "ours-step-sgd")
    assert list(answers) == [f"ours-step-sgd, 2^{bits}" for bits in (16, 20, 24)]
    assert [answer.get("to_fewest", 0) > 0 for answer in answers.values()] == [False, True, True]


# ---- an earlier commit -----------------------------------------------------------------------------------------------


def test_an_earlier_commit_has_its_own_entry_points(tmp_path):
    from benchmark import earlier

    folder = earlier.write_metadata(ROOT, tmp_path / "metadata")
    code = (
        "from importlib.metadata import distribution; found = distribution('gluon-trainer'); "
        "print(found._path.parent, found.entry_points)"
    )
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(folder))
    assert "trainer_plugins.logreg:LogisticRegression" in done.stdout


# ---- the peers' environment ------------------------------------------------------------------------------------------


def test_everything_of_the_peers_is_pinned_exactly():
    lines = (SCRIPTS / "benchmark" / "peers.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line.partition(";")[0] for line in pins)
    names = {line.partition("==")[0] for line in pins}
    assert {"torch", "pytorch-lightning", "pytorch-ignite", "skorch", "keras", "jax", "scikit-learn"} <= names


def test_the_peers_are_installed_once_and_again_when_the_pins_change(tmp_path, monkeypatch):
    from benchmark import peers

    pins = tmp_path / "peers.txt"
    pins.write_text("torch==1.0\n")
    monkeypatch.setattr(peers, "REQUIREMENTS", pins)
    calls = []
    run = subprocess.run

    def without_network(command, **options):
        if "install" not in command:
            return run(command, **options)
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", without_network)
    python = peers.ensure(tmp_path / "venv")
    assert python.exists()
    assert [peers.CPU_INDEX in call for call in calls] == [True, False]
    peers.ensure(tmp_path / "venv")
    assert len(calls) == 2
    pins.write_text("torch==2.0\n")
    peers.ensure(tmp_path / "venv")
    assert len(calls) == 4


# ---- the script ------------------------------------------------------------------------------------------------------


def answers_of(folder, key):
    """The answers of the only round of a workload."""
    (each,) = json.loads((folder / "results.json").read_text())["workloads"][key]["rounds"]
    return each["answers"]


def bench(*arguments, cwd):
    """The module behind the script, in the environment of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "TRAINER_BENCH_VENV": str(cwd / "peers")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_a_quick_round_needs_no_peers_and_writes_table_numbers_and_picture(tmp_path):
    done = bench(
        "--quick", "--workload", "a", "--competitors", "ours,ours-step,notebook", "--output", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "peers").exists()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (section,) = results["workloads"].values()
    answers = section["rounds"][0]["answers"]
    assert list(answers) == ["ours", "ours-step", "notebook"]
    assert all(answer["seconds"] > 0 and answer["learns"] for answer in answers.values())
    assert answers["ours"]["loss"] == answers["ours-step"]["loss"], "the engine changes nothing of its step's results"
    assert section["about"]["machine"]["cores"] >= 1
    assert section["about"]["versions"]["own"]["mxnet"] == "1.9.1"
    assert "| `notebook`: the notebook's loop" in (tmp_path / "out" / "table.md").read_text()
    assert "the notebook's loop" in (tmp_path / "out" / "summary.md").read_text()
    assert "<svg" in (tmp_path / "out" / "times.svg").read_text()
    assert "notebook" in done.stdout


@pytest.mark.slow
def test_a_whole_training_validates_and_writes_its_logs(tmp_path):
    names = ["ours", "ours-step", "gluon-tuned", "estimator"]
    done = bench("--quick", "--workload", "l", "--competitors", ",".join(names), "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = answers_of(tmp_path / "out", "l")
    assert list(answers) == names
    assert [answer.get("error") for answer in answers.values()] == [None] * 4


@pytest.mark.slow
def test_every_installed_plugin_of_ours_has_its_cost(tmp_path):
    from trainer.catalog import registry

    done = bench("--quick", "--workload", "g", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = answers_of(tmp_path / "out", "g")
    ours = {e.name for e in registry.installed(registry.PLUGINS) if e.distribution == "gluon-trainer"}
    # They are for images, large nets, rows kept for calibration, and columns of a table.
    ours -= {"conformal", "cutmix", "mixed-precision", "slices"}
    assert set(answers) == {"no plugins", "ten empty plugins", "default plugins"} | ours
    assert {name for name, answer in answers.items() if "seconds" not in answer} == set()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workload", "z"], "z is not among a, b, c, d, l, e, f, g, h, i"),
        (["--competitors", "pytorch"], "pytorch is not among ours"),
        (["--rounds", "0"], "'0' is not a whole number above 0"),
        (["--against", "no-commit"], "'no-commit' is not a commit of this repository"),
        (["--check", "no-file"], "'no-file' is not a file"),
        (["--quick", "--check"], "a quick round has no results to write or check"),
        (["--search", "--quick"], "--search measures no times"),
    ],
)
def test_what_it_does_not_know_is_said_before_anything_is_installed(tmp_path, arguments, complaint):
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_saving_is_compared_with_a_plain_write(tmp_path):
    done = bench("--quick", "--workload", "i", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = answers_of(tmp_path / "out", "i")
    assert sorted(answers) == ["a checkpoint", "a plain write and flush"]
    assert all(answer["seconds"] > 0 for answer in answers.values())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_the_sum_over_processes_is_measured_with_its_share(tmp_path):
    done = bench("--quick", "--workload", "j", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = answers_of(tmp_path / "out", "j")
    assert list(answers) == ["10^3 parameters, two processes", "10^3 parameters, one process"]
    two, one = answers.values()
    assert 0 < two["share"] < 1
    assert "share" not in one


@pytest.mark.slow
def test_images_are_trained_on_by_us_and_by_a_plain_loop(tmp_path):
    done = bench("--quick", "--workload", "k", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = answers_of(tmp_path / "out", "k")
    assert [name for name, answer in answers.items() if "seconds" not in answer] == []
    assert [name.partition(",")[0] for name in answers] == ["trainer run"] * 2 + ["GluonCV's loop"] * 2
    rates = {name: (answer["rate"], pytest.approx(1 / answer["seconds"], rel=1e-3)) for name, answer in answers.items()}
    assert {name: rate for name, (rate, expected) in rates.items() if rate != expected} == {}
