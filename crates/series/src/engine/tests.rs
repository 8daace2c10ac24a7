mod crash;
mod damage;
mod model_based;
