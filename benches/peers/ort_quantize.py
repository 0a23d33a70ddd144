"""Quantizes a fused network with ONNX Runtime: the process that `repquant quantize` is compared with.

python ort_quantize.py FLOAT.onnx IMAGES COUNT OUT.onnx
"""

import sys

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

import preparation


class Images(CalibrationDataReader):
    """One image at a time, as ONNX Runtime's own examples do."""

    def __init__(self, paths, preprocessing):
        self.inputs = ({"input": preparation.read(path, preprocessing)[None]} for path in paths)

    def get_next(self):
        return next(self.inputs, None)


def main():
    model, folder, count, out = sys.argv[1:]
    preprocessing = preparation.metadata(onnx.load(model))
    quantize_static(
        model,
        out,
        Images(preparation.files(folder, int(count)), preprocessing),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Entropy,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )


if __name__ == "__main__":
    main()
