"""Where readings go: JSON lines, annotated images and video, the terminal. One file each behind `Sink`."""

from edge_node.sinks.annotated_images import AnnotatedImages
from edge_node.sinks.annotated_video import AnnotatedVideo
from edge_node.sinks.json_lines import JsonLines, reading_to_json
from edge_node.sinks.shared import SharedSink
from edge_node.sinks.sink import Shown, Sink
from edge_node.sinks.terminal import TerminalLine
from edge_node.sinks.while_room import WhileRoom

__all__ = [
    "AnnotatedImages",
    "AnnotatedVideo",
    "JsonLines",
    "SharedSink",
    "Shown",
    "Sink",
    "TerminalLine",
    "WhileRoom",
    "reading_to_json",
]
