"""What a step does with a loss in closed form, for a net that returns its input."""

from trainer.mxnet import gluon, mx
from trainer.step.losses import TrainingLoss
from trainer.step.symbol import trace


def traced(loss, columns, *, weighted=False):
    net = gluon.nn.HybridLambda(lambda F, x: x)
    return trace(net, loss, sample=[mx.nd.zeros((1, columns))], weighted=weighted)


def gradient_and_losses(graph, x, label, weight):
    """What the step would do for a net that returns its input: the gradient, and the losses of both ways."""
    lean, rows = graph.lean, len(x)
    arrays = {graph.inputs[0]: x, graph.label: label, **({graph.weight: weight} if weight is not None else {})}
    gradient = mx.nd.zeros(x.shape)
    executor = lean.symbol.bind(
        mx.cpu(),
        args={name: arrays[name] for name in lean.symbol.list_arguments()},
        args_grad={graph.inputs[0]: gradient},
        grad_req={name: "write" if name == graph.inputs[0] else "null" for name in lean.symbol.list_arguments()},
    )
    executor.forward(is_train=True)
    executor.backward()
    output = executor.outputs[1]
    by_row = lean.bind_losses(output, label, weight).forward()[0].asnumpy()
    summed = TrainingLoss([mx.cpu()])
    summed.keep([[output, label, *([] if weight is None else [weight])]], [rows], lean, list)
    return gradient.asnumpy(), by_row, summed.take_sum()
