"""The console: `huesong {data,preprocess,label,train,evaluate,register,compose,export,status}`."""

from huesong.cli.app import app, main

__all__ = ["app", "main"]
