"""GStreamer's RTSP server as a process of its own: `python rtsp_server.py GST_FOLDER LAUNCH [PORT] [USER PASSWORD]`.

Serves one pipeline at /live and prints the port that it listens on. The library is called through ctypes, so that
it needs neither root nor Python's GObject packages; `deploy/get-gstreamer.sh` unpacks it.
"""

import ctypes
import sys
from ctypes import c_char_p, c_int, c_uint, c_void_p
from pathlib import Path


def library(folder: Path, name: str) -> ctypes.CDLL:
    """A library with functions that take and give pointers."""
    own = folder / name
    return ctypes.CDLL(str(own) if own.exists() else name, mode=ctypes.RTLD_GLOBAL)


def function(lib: ctypes.CDLL, name: str, *takes: type, gives: type | None = c_void_p):
    found = getattr(lib, name)
    found.argtypes, found.restype = takes, gives
    return found


def serve(folder: Path, launch: str, port: str, user: str, password: str) -> None:
    glib = library(folder, "libglib-2.0.so.0")
    gst = library(folder, "libgstreamer-1.0.so.0")
    rtsp = library(folder, "libgstrtspserver-1.0.so.0")
    function(gst, "gst_init", c_void_p, c_void_p, gives=None)(None, None)

    server = function(rtsp, "gst_rtsp_server_new")()
    function(rtsp, "gst_rtsp_server_set_address", c_void_p, c_char_p, gives=None)(server, b"127.0.0.1")
    function(rtsp, "gst_rtsp_server_set_service", c_void_p, c_char_p, gives=None)(server, port.encode())
    factory = function(rtsp, "gst_rtsp_media_factory_new")()
    function(rtsp, "gst_rtsp_media_factory_set_launch", c_void_p, c_char_p, gives=None)(factory, launch.encode())
    function(rtsp, "gst_rtsp_media_factory_set_shared", c_void_p, c_int, gives=None)(factory, 1)
    if user:
        protect(gst, rtsp, server, factory, user, password)
    mounts = function(rtsp, "gst_rtsp_server_get_mount_points", c_void_p)(server)
    add = function(rtsp, "gst_rtsp_mount_points_add_factory", c_void_p, c_char_p, c_void_p, gives=None)
    add(mounts, b"/live", factory)
    if not function(rtsp, "gst_rtsp_server_attach", c_void_p, c_void_p, gives=c_uint)(server, None):
        sys.exit("cannot listen")
    print(function(rtsp, "gst_rtsp_server_get_bound_port", c_void_p, gives=c_int)(server), flush=True)
    loop = function(glib, "g_main_loop_new", c_void_p, c_int)(None, 0)
    function(glib, "g_main_loop_run", c_void_p, gives=None)(loop)


def protect(gst, rtsp, server: int, factory: int, user: str, password: str) -> None:
    """Let in who knows the password, and nobody else."""
    role = f"{user}, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    structure = function(gst, "gst_structure_new_from_string", c_char_p)(role.encode())
    add_role = function(rtsp, "gst_rtsp_media_factory_add_role_from_structure", c_void_p, c_void_p, gives=None)
    add_role(factory, structure)
    auth = function(rtsp, "gst_rtsp_auth_new")()
    token = function(rtsp, "gst_rtsp_token_new_empty")()
    set_string = function(rtsp, "gst_rtsp_token_set_string", c_void_p, c_char_p, c_char_p, gives=None)
    set_string(token, b"media.factory.role", user.encode())
    basic = function(rtsp, "gst_rtsp_auth_make_basic", c_char_p, c_char_p, gives=c_void_p)
    add_basic = function(rtsp, "gst_rtsp_auth_add_basic", c_void_p, c_void_p, c_void_p, gives=None)
    add_basic(auth, basic(user.encode(), password.encode()), token)
    function(rtsp, "gst_rtsp_server_set_auth", c_void_p, c_void_p, gives=None)(server, auth)


if __name__ == "__main__":
    folder, launch, *rest = sys.argv[1:]
    port, user, password = [*rest, *["0", "", ""][len(rest) :]]
    serve(Path(folder), launch, port, user, password)
