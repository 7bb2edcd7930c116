"""What settings may name of River, and what a pickle of its models may hold (R21).

All of these are classes that only calculate: whatever a pickle calls them with, they read no file and run nothing else.
"""

from __future__ import annotations

DETECTORS = frozenset({
    "GaussianScorer", "HalfSpaceTrees", "LODA", "LocalOutlierFactor", "OneClassSVM", "PredictiveAnomalyDetection",
    "QuantileFilter", "StandardAbsoluteDeviation", "ThresholdFilter",
})  # fmt: skip
"""Of `river.anomaly`."""
BEFORE = {
    "preprocessing": frozenset({
        "AdaptiveStandardScaler", "Binarizer", "MaxAbsScaler", "MinMaxScaler", "Normalizer", "RobustScaler", "StandardScaler",
    }),
    "feature_extraction": frozenset({"PolynomialExtender"}),
}  # fmt: skip
"""By module, what features may go through."""
PARTS = {
    "anomaly": DETECTORS,
    "linear_model": frozenset({"LinearRegression"}),
    "optim": frozenset({"Adam", "SGD"}),
    "stats": frozenset({"EWMean", "Mean", "Quantile"}),
    "time_series": frozenset({"HoltWinters", "SNARIMAX"}),
}
"""By module, what a parameter may be."""

IN_PICKLES = {
    "builtins": "bool float tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "functools": "partial",
    "random": "Random",
    "river._river_rust.stats": "RsEWMean RsEWVar RsIQR RsQuantile",
    "river._river_rust.vectordict": "VectorDict euclidean_distance_tuple",
    "river.anomaly.filter": "QuantileFilter ThresholdFilter",
    "river.anomaly.gaussian": "GaussianScorer",
    "river.anomaly.hst": "HalfSpaceTrees",
    "river.anomaly.loda": "LODA",
    "river.anomaly.lof": "LocalOutlierFactor",
    "river.anomaly.pad": "PredictiveAnomalyDetection",
    "river.anomaly.sad": "StandardAbsoluteDeviation",
    "river.anomaly.svm": "OneClassSVM",
    "river.compose.pipeline": "Pipeline",
    "river.feature_extraction.poly": "PolynomialExtender",
    "river.linear_model.lin_reg": "LinearRegression",
    "river.neighbors.lazy": "LazySearch",
    "river.optim.adam": "Adam",
    "river.optim.initializers": "Zeros",
    "river.optim.losses": "Hinge Squared",
    "river.optim.schedulers": "Constant",
    "river.optim.sgd": "SGD",
    "river.preprocessing.scale": "AdaptiveStandardScaler Binarizer MaxAbsScaler MinMaxScaler Normalizer RobustScaler StandardScaler",
    "river.proba.gaussian": "Gaussian",
    "river.sketch.histogram": "Bin Histogram",
    "river.stats.ewmean": "EWMean",
    "river.stats.ewvar": "EWVar",
    "river.stats.iqr": "IQR",
    "river.stats.maximum": "AbsMax Max",
    "river.stats.mean": "Mean",
    "river.stats.minimum": "Min",
    "river.stats.quantile": "Quantile",
    "river.stats.var": "Var",
    "river.time_series.holt_winters": "AdditiveLevel AdditiveSeason HoltWinters MultiplicativeLevel MultiplicativeSeason Trend",
    "river.time_series.snarimax": "Differencer SNARIMAX",
    "river.tree.padded": "PaddedBranch PaddedLeaf",
    "river.utils.rolling": "Rolling",
}
"""By module, the names that an unpickler gives out; a test pickles all that settings can name."""
