"""Commands for people who only want music: compose, doctor."""
