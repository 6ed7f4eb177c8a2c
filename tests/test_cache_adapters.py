"""Other stores as a cache, each in the few lines that the README shows, with a real round trip."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import threading
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from aifs_vision import Cache, Vision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llama_index.core.storage.kvstore.types import BaseKVStore

KEY = sha256(b"a request").hexdigest()
VALUE = '{"text": "Größe 😀", "usage": {"input_tokens": 1203}}'


def round_trip(cache: Cache) -> None:
    """What every cache has to do; and it is taken as one."""
    Vision(base_url="http://service.example/v2", api_key="k", cache=cache)
    assert cache.get(KEY) is None
    for value in ("{}", VALUE):
        cache.put(KEY, value)
        assert cache.get(KEY) == value
    assert cache.get(KEY[::-1]) is None


def test_a_dictionary() -> None:
    """The least that can be a cache."""

    class DictCache:
        def __init__(self) -> None:
            self.kept: dict[str, str] = {}

        def get(self, key: str) -> str | None:
            return self.kept.get(key)

        def put(self, key: str, value: str) -> None:
            self.kept[key] = value

    round_trip(DictCache())


if importlib.util.find_spec("langchain_core"):

    def test_a_byte_store_of_langchain() -> None:
        """A `ByteStore` of LangChain: in memory, on disk, in Redis, whatever has `mget` and `mset`."""
        from langchain_core.stores import ByteStore, InMemoryByteStore

        class StoreCache:
            def __init__(self, store: ByteStore) -> None:
                self.store = store

            def get(self, key: str) -> str | None:
                [found] = self.store.mget([key])
                return None if found is None else found.decode()

            def put(self, key: str, value: str) -> None:
                self.store.mset([(key, value.encode())])

        round_trip(StoreCache(InMemoryByteStore()))


if importlib.util.find_spec("llama_index"):

    def test_a_key_value_store_of_llamaindex(tmp_path: Path) -> None:
        """A `BaseKVStore` of LlamaIndex keeps dictionaries, in a collection; the simple one can be saved."""
        from llama_index.core.storage.kvstore import SimpleKVStore

        class KVCache:
            def __init__(self, store: BaseKVStore, collection: str = "readings") -> None:
                self.store, self.collection = store, collection

            def get(self, key: str) -> str | None:
                found = self.store.get(key, self.collection)
                return None if found is None else found["reading"]

            def put(self, key: str, value: str) -> None:
                self.store.put(key, {"reading": value}, self.collection)

        store = SimpleKVStore()
        round_trip(KVCache(store))
        store.persist(str(tmp_path / "readings.json"))
        saved = SimpleKVStore.from_persist_path(str(tmp_path / "readings.json"))
        assert KVCache(saved).get(KEY) == VALUE


REDIS = shutil.which("redis-server") or shutil.which("valkey-server")

if REDIS and importlib.util.find_spec("redis"):

    @pytest.fixture
    def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        """A Redis server of its own, on a socket in a folder of its own."""
        folder = tmp_path_factory.mktemp("redis")
        options = [
            "--port",
            "0",
            "--unixsocket",
            "redis.sock",
            "--save",
            "",
            "--dir",
            str(folder),
            "--loglevel",
            "notice",
        ]
        with subprocess.Popen([str(REDIS), *options], stdout=subprocess.PIPE, text=True, cwd=folder) as server:
            assert server.stdout is not None
            try:
                assert any("ready to accept connections" in line.lower() for line in server.stdout)
                reader = threading.Thread(target=server.stdout.read)  # so that the server never waits for its log
                reader.start()
                yield str(folder / "redis.sock")
            finally:
                server.terminate()
            reader.join()

    def test_redis(redis_socket: str) -> None:
        """A Redis or Valkey server, for readings that several machines share; its client is safe for threads."""
        import redis

        class RedisCache:
            def __init__(self, client: redis.Redis, seconds: int = 90 * 86400) -> None:
                self.client, self.seconds = client, seconds

            def get(self, key: str) -> str | None:
                found = self.client.get(f"aifs:{key}")
                return found.decode() if isinstance(found, bytes) else None

            def put(self, key: str, value: str) -> None:
                self.client.set(f"aifs:{key}", value, ex=self.seconds)

        with redis.Redis(unix_socket_path=redis_socket) as client:
            round_trip(RedisCache(client))
            assert 0 < int(str(client.ttl(f"aifs:{KEY}"))) <= 90 * 86400
