"""The size of a picture on LitServe, sent as its documentation shows: `lit_values.py PORT`."""

import sys

import litserve
from fastapi import Request


class Size(litserve.LitAPI):
    def setup(self, device: str) -> None:
        del device

    def decode_request(self, request: Request) -> bytes:
        data: bytes = request["image"].file.read()  # the form, whatever the hint says
        return data

    def predict(self, x: bytes) -> int:
        return len(x)

    def encode_response(self, output: int) -> int:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Size(), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
