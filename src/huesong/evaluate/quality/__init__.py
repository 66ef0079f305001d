"""Musical quality: form, line, harmony, phrase and rhythm of a piece as it was read from its file, and beside real music."""
