"""The function on LitServe, its input validated by the same pydantic model: `lit.py PORT`."""

import sys

import litserve
from pydantic import BaseModel


class Row(BaseModel):
    x: list[float]


class Sum(litserve.LitAPI):
    def setup(self, device: str) -> None:
        del device

    def decode_request(self, request: Row) -> list[float]:
        return request.x

    def predict(self, x: list[float]) -> float:
        return sum(x)

    def encode_response(self, output: float) -> dict[str, float]:
        return {"y": output}


if __name__ == "__main__":
    server = litserve.LitServer(Sum(), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
