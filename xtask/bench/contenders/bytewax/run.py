"""Starts one Bytewax process for each core and adds up what they have committed.

    run.py --+-- bytewax.run flow (worker 0, first half of the partitions)  --+--> month=N/*.parquet
             +-- bytewax.run flow (worker 1, second half)                   --+

Processes and not threads, because a Python consumer holds the interpreter lock while it hands over records.
"""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, TopicPartition


def main() -> int:
    workers = int(os.environ["BENCH_CORES"])
    wanted = int(os.environ["BENCH_RECORDS"])
    recovery = os.path.join(os.environ["BENCH_WORK"], "recovery")
    os.makedirs(recovery)
    subprocess.run([sys.executable, "-m", "bytewax.recovery", recovery, str(workers)], check=True)

    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(workers))
    events: queue.Queue = queue.Queue()
    children = []
    for worker, (assigned, share) in enumerate(shares(workers, wanted)):
        # One Polars thread each: the processes already fill the cores.
        env = dict(os.environ, POLARS_MAX_THREADS="1", WORKER=str(worker), WORKERS=str(workers))
        env |= {"WORKER_PARTITIONS": json.dumps(assigned), "WORKER_RECORDS": str(share)}
        command = [sys.executable, "-m", "bytewax.run", "flow:flow", "-i", str(worker), "-a", addresses]
        command += ["-r", recovery, "-s", "5", "-b", "0"]
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        children.append(child)
        threading.Thread(target=forward, args=(worker, child, events), daemon=True).start()
    return follow(children, events, wanted)


def shares(workers: int, wanted: int) -> list[tuple[list[int], int]]:
    """The partitions of each worker, and how many of the wanted records it reads from them."""
    topic = os.environ["BENCH_TOPIC"]
    consumer = Consumer({"bootstrap.servers": os.environ["BENCH_BROKERS"], "group.id": "bytewax-bench"})
    held = []
    for partition in range(int(os.environ["BENCH_PARTITIONS"])):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        held.append(high - low)
    consumer.close()
    groups = [list(range(worker, len(held), workers)) for worker in range(workers)]
    result = []
    left = wanted
    for index, group in enumerate(groups):
        later = sum(held[p] for other in groups[index + 1 :] for p in other)
        fair = left // (workers - index)
        share = min(sum(held[p] for p in group), max(fair, left - later))
        result.append((group, share))
        left -= share
    if left > 0:
        raise SystemExit(f"the topic holds {left} records fewer than asked for")
    return result


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def forward(worker: int, child: subprocess.Popen, events: queue.Queue) -> None:
    for line in child.stdout:
        if line.startswith("{"):
            events.put((worker, json.loads(line)))
    # Bytewax ends only after the last epoch's snapshot is in the recovery store.
    events.put((worker, {"event": "exit", "at": time.time(), "code": child.wait()}))


def follow(children: list, events: queue.Queue, wanted: int) -> int:
    ready = False
    final = [0] * len(children)
    last = [0] * len(children)
    running = len(children)
    while running:
        worker, event = events.get()
        match event["event"]:
            case "ready" if not ready:
                ready = True
                print(json.dumps(event), flush=True)
            case "snapshot":
                # The epoch before this one is in the recovery store by now; this one is about to be.
                final[worker], last[worker] = last[worker], event["records"]
                say_committed(event["at"], final)
            case "exit":
                running -= 1
                if event["code"] != 0:
                    for child in children:
                        child.kill()
                    return 1
                final[worker] = last[worker]
                say_committed(event["at"], final)
    return 0 if sum(final) >= wanted else 1


def say_committed(at: float, final: list[int]) -> None:
    print(json.dumps({"event": "committed", "at": at, "records": sum(final)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
