"""Pictures: safe decoding, colour statistics, CNN encoders."""
