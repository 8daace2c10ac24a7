mod crash;
mod damage;
mod deltas;
mod format;
mod model_based;
mod snapshot;
