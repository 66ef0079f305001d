"""The copy test: has a network learnt to look back, so that what it heard can come again?"""
