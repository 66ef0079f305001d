"""A film of many pictures with one continuous score: its emotion follows the pictures, they change on bar lines."""
