"""From a folder of TFRecords to verified splits and batches of uint8 images; the only package that imports TensorFlow."""
