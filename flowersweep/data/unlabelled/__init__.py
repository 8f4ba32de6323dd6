"""Images that belong to no data set: a file, a folder, a glob, a table of paths, or TFRecords."""
