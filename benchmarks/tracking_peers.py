"""Peers of benchmarks/tracking.py: run by a Python that has `supervision` and `norfair`. Frames of boxes and scores as
JSON on stdin, the id of each box (-1 or null: none) for each peer on stdout."""

import json
import sys

import norfair
import numpy as np
import supervision

FPS, TIMEOUT_S = 10, 10


def byte_track(frames: list) -> list:
    tracker = supervision.ByteTrack(
        track_activation_threshold=0.5, lost_track_buffer=TIMEOUT_S * FPS, frame_rate=FPS, minimum_consecutive_frames=2
    )
    ids = []
    for boxes, scores in frames:
        if not boxes:
            tracker.update_with_detections(supervision.Detections.empty())
            ids.append([])
            continue
        number = np.arange(len(boxes))
        found = tracker.update_with_detections(
            supervision.Detections(
                np.array(boxes), confidence=np.array(scores), class_id=number * 0, data={"n": number}
            )
        )
        named = dict(
            zip(found.data.get("n", ()), found.tracker_id if found.tracker_id is not None else (), strict=True)
        )
        ids.append([int(named.get(n, -1)) for n in number])
    return ids


def norfair_iou(frames: list) -> list:
    tracker = norfair.Tracker("iou", distance_threshold=0.7, initialization_delay=1, hit_counter_max=TIMEOUT_S * FPS)
    ids = []
    for boxes, scores in frames:
        found = [
            norfair.Detection(np.array(b).reshape(2, 2), np.array([s, s])) for b, s in zip(boxes, scores, strict=True)
        ]
        named = {id(track.last_detection): track.id for track in tracker.update(found)}
        ids.append([named.get(id(one)) or -1 for one in found])
    return ids


clips = json.load(sys.stdin)
json.dump({"ByteTrack": [byte_track(c) for c in clips], "norfair": [norfair_iou(c) for c in clips]}, sys.stdout)
