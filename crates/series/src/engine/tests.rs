mod model_based;
