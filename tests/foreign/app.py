import json
from wit_world import exports
from wit_world.exports import transform
from wit_world.exports.transform import Emitted, EmittedKey_Input, Transformed
from wit_world.imports.types import Rejection


class Transform(exports.Transform):
    """Writes each JSON object anew, with its keys sorted."""

    def open(self, config: str) -> list[str]:
        json.loads(config)
        return ["out"]

    def transform(self, batch) -> Transformed:
        payload, offsets, emitted, rejected = bytearray(), [0], [], []
        for row, (start, end) in enumerate(zip(batch.offsets, batch.offsets[1:])):
            try:
                value = json.loads(batch.payload[start:end])
            except ValueError as error:
                rejected.append(Rejection(row, "invalid-json", str(error)))
                continue
            payload += json.dumps(value, sort_keys=True).encode()
            offsets.append(len(payload))
            emitted.append(Emitted(row, 0, EmittedKey_Input(), [], False))
        return Transformed(bytes(payload), offsets, emitted, rejected, [])
