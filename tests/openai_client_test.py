"""The official OpenAI client against the real server, unchanged.

Run by `make test` with the client from tests/fixtures/requirements-openai.txt in target/python; skipped, and said so, where it could not be had.
"""

import base64
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "target/python"))

try:
    import openai
    from openai.types import image_generate_params
    from openai.types.chat import completion_create_params
except ImportError:
    openai = None

BIN = ROOT / "target/release"
SHAPE = "--hidden 64 --layers 2 --heads 2 --context 512 --resolution 64 --multipliers 1,2,2 --codes 128".split()


def png(side):
    """A grey ramp as a PNG file."""
    rows = b"".join(b"\0" + bytes((x * 2 + y) % 256 for x in range(side)) for y in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@unittest.skipIf(openai is None, "the openai client is not installed")
@unittest.skipUnless((BIN / "llm-cxr").exists(), "the server is not built")
class OpenAiClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        model = pathlib.Path(cls.folder.name) / "tiny"
        subprocess.run([BIN / "llm-cxr-train", "init", "--out", model, *SHAPE], check=True, stdout=subprocess.DEVNULL)
        cls.server = subprocess.Popen(
            [BIN / "llm-cxr", "serve", "--model", model, "--listen", "127.0.0.1:0", "--device", "cpu", "--log-format", "json"],
            stderr=subprocess.PIPE, text=True)
        address = None
        for line in cls.server.stderr:
            said = json.loads(line)
            address = said.get("address", address)
            if said.get("message") == "ready":
                break
        cls.client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="any", max_retries=0, timeout=60)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.communicate(timeout=30)
        cls.folder.cleanup()

    def messages(self):
        url = "data:image/png;base64," + base64.b64encode(png(80)).decode()
        return [{"role": "user", "content": [{"type": "text", "text": "Write the report."}, {"type": "image_url", "image_url": {"url": url}}]}]

    def test_a_chat_about_an_image_is_answered(self):
        chat = self.client.chat.completions.create(model=self.model, messages=self.messages(), max_tokens=8, temperature=0, seed=1)
        self.assertEqual(chat.object, "chat.completion")
        self.assertIsInstance(chat.choices[0].message.content, str)
        self.assertIn(chat.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(chat.usage.total_tokens, chat.usage.prompt_tokens + chat.usage.completion_tokens)

    def test_a_stream_brings_the_same_text_and_the_usage(self):
        asked = dict(model=self.model, messages=self.messages(), max_tokens=12, temperature=0)
        whole = self.client.chat.completions.create(**asked).choices[0].message.content
        chunks = list(self.client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), whole)
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_images_are_drawn(self):
        drawn = self.client.images.generate(model=self.model, prompt="Left effusion.", n=2, response_format="b64_json")
        self.assertEqual(len(drawn.data), 2)
        for image in drawn.data:
            self.assertTrue(base64.b64decode(image.b64_json).startswith(b"\x89PNG"))

    def test_errors_are_the_clients_own(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.images.generate(model=self.model, prompt="x", response_format="url")
        self.assertEqual(refused.exception.code, "unsupported_parameter")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("another")

    def test_no_field_that_the_client_knows_is_called_unknown(self):
        def code(path, name):
            # What must be there is left out or of the wrong type, so nothing is ever begun.
            with self.assertRaises(openai.BadRequestError) as refused:
                self.client.post(path, body={name: 0}, cast_to=object)
            return refused.exception.code

        for path, fields in (
            ("/chat/completions", completion_create_params.CompletionCreateParamsBase),
            ("/images/generations", image_generate_params.ImageGenerateParamsBase),
        ):
            self.assertEqual(code(path, "no_such_field"), "unknown_field")
            for name in fields.__annotations__:
                with self.subTest(path=path, name=name):
                    self.assertNotEqual(code(path, name), "unknown_field")


if __name__ == "__main__":
    unittest.main()
