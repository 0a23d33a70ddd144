//! From a [`TrainedNet`](crate::load::TrainedNet) to a [`Graph`](crate::model::Graph) of plain convolutions, in f64.
