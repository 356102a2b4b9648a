"""The five strategies from Python, through two instances of the service: python five_strategies.py URL URL

Needs httpx. The service's configuration is beside this file, terrace.toml; the table is in its first lines.
"""

import sys
import time

import httpx

# After a change was acknowledged, how long another instance may still return the value before, in seconds.
STALENESS_MAX = 1.0


class Cache:
    """One instance of the service."""

    def __init__(self, url: str):
        self.http = httpx.Client(base_url=url, timeout=10)

    def get(self, key: str):
        """The value and where it was, or (None, None)."""
        reply = self.http.get("/api/cache", params={"key": key})
        if reply.status_code == 404:
            return None, None
        body = reply.raise_for_status().json()
        return body["value"], body["source"]

    def put(self, key: str, value, **more):
        reply = self.http.put("/api/cache", params={"key": key}, json={"value": value, **more})
        return reply.raise_for_status().json()

    def put_later(self, key: str, value):
        """Stores what the origin gets later, and says where to ask what has become of it."""
        reply = self.http.put("/api/cache", params={"key": key}, json={"value": value}).raise_for_status()
        assert reply.status_code == 202, reply
        return reply.json(), reply.headers["location"]

    def state(self, location: str):
        """What has become of a write: waiting, dead, coalesced or gone. Only the instance that took it knows."""
        return self.http.get(location).raise_for_status().json()["state"]

    def delete(self, key: str):
        return self.http.delete("/api/cache", params={"key": key}).raise_for_status().json()

    def invalidate(self, **what):
        return self.http.post("/api/cache/invalidate", json=what).raise_for_status().json()

    def flush(self, keyspace: str):
        return self.http.post(f"/api/cache/behind/{keyspace}/flush").raise_for_status().json()

    def at_origin(self, key: str):
        """What the database has: the tiers are asked to forget the key first."""
        self.invalidate(keys=[key])
        value, source = self.get(key)
        assert source in ("origin", None), (key, source)
        return value

    def sees(self, key: str, value):
        """Waits until this instance returns the value, which it has to within its bound."""
        began = time.monotonic()
        while (seen := self.get(key)[0]) != value:
            assert time.monotonic() - began < STALENESS_MAX, f"{key}: {seen!r} in place of {value!r}"


def cache_aside(one: Cache, other: Cache):
    key = "aside:1"
    assert other.get(key) == (None, None)
    one.put(key, {"n": 1}, ttl=60, tags=["group:a"])
    other.sees(key, {"n": 1})
    other.put(key, {"n": 2})
    one.sees(key, {"n": 2})
    one.invalidate(tags=["group:a"])
    one.invalidate(keys=[key])
    other.sees(key, None)


def read_through(one: Cache, other: Cache):
    key = "read:1"
    assert one.get(key) == ({"name": "ann"}, "origin")
    assert one.get(key) == ({"name": "ann"}, "l1")
    assert other.get(key)[1] in ("l1", "l2"), "one load serves both"
    assert one.get("read:nobody") == (None, None)


def write_through(one: Cache, other: Cache):
    key = "through:1"
    for number, (writer, reader) in enumerate([(one, other), (other, one)]):
        writer.put(key, {"n": number})
        reader.sees(key, {"n": number})
    assert one.at_origin(key) == {"n": 1}
    other.delete(key)
    one.sees(key, None)
    assert one.at_origin(key) is None


def write_around(one: Cache, other: Cache):
    key = "around:1"
    for number, (writer, reader) in enumerate([(one, other), (other, one)]):
        writer.put(key, {"n": number})
        assert writer.get(key) == ({"n": number}, "origin"), "the writer kept no copy"
        reader.sees(key, {"n": number})


def write_behind(one: Cache, other: Cache):
    key = "behind:1"
    for number, (writer, reader) in enumerate([(one, other), (other, one)]):
        reply, location = writer.put_later(key, {"n": number})
        assert reply["ack"] == "fsync" and reply["write_id"], reply
        assert writer.state(location) == "waiting"
        assert writer.get(key)[0] == {"n": number}
        reader.sees(key, {"n": number})
        assert writer.flush("behind")["stored"] == 1
        assert writer.state(location) == "gone", "the origin has it, and the journal keeps nothing of it"
        assert reader.at_origin(key) == {"n": number}


def main():
    one, other = (Cache(url) for url in sys.argv[1:3])
    for strategy in (cache_aside, read_through, write_through, write_around, write_behind):
        strategy(one, other)
        print(f"{strategy.__name__}: ok", flush=True)


if __name__ == "__main__":
    main()
