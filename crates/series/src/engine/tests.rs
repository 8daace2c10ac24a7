mod crash;
pub(crate) mod damage;
mod deltas;
mod format;
mod keeping;
pub(crate) mod model_based;
mod reads;
mod snapshot;
mod unread;
