"""The console: `huesong {data,preprocess,label,train,evaluate,register,compose,export,status}`."""

from huesong.cli.app import main

__all__ = ["main"]
