"""The plan of a piece: metre, form, harmony, cadences; read from music, or invented for an emotion."""
