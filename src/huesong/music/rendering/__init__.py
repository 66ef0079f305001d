"""What is heard and seen of a score: audio (soundfont, room, loudness) and piano rolls."""
