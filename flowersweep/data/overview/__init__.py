"""What a person should see of a data set: small pictures, formats and sizes, what was left out."""
