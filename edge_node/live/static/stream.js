// The connection to the edge node: opens again by itself, hands on what comes, says when it is lost.

const LONGEST_WAIT_MS = 4000;
const decoder = new TextDecoder();

// Until somebody looks.
export function looking() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
}

export class Stream extends EventTarget {
  #socket = null;
  #wait = 250;
  #timer = 0;

  constructor() {
    super();
    addEventListener("online", () => this.#again(0));
    document.addEventListener("visibilitychange", () => document.hidden || this.#socket || this.#again(0));
    this.#open();
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // Of a picture that came just now: to be called when it is shown. The edge node is told once somebody looks, so that
  // a page in the background gets no more of them.
  receipt() {
    const socket = this.#socket;
    return async () => {
      await looking();
      if (socket === this.#socket) this.send({ shown: 1 });
    };
  }

  #open() {
    const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/stream`;
    const socket = (this.#socket = new WebSocket(address));
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      this.#wait = 250;
      this.#tell("message", typeof data === "string" ? JSON.parse(data) : unpacked(data));
    };
    socket.onclose = ({ reason }) => {
      this.#socket = null;
      this.#tell("lost", { reason });
      this.#again(this.#wait);
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
    };
  }

  #again(wait) {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      if (this.#socket) return;
      try {
        const asked = await fetch("/search?text=");
        if (asked.status === 401) return location.reload(); // the token has changed
      } catch {
        // it is away; the socket says so
      }
      if (!this.#socket) this.#open();
    }, wait);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const about = JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length)));
  const start = 4 + length;
  const image = (from, size) => (size ? new Blob([new Uint8Array(buffer, from, size)], { type: "image/jpeg" }) : null);
  return { ...about, bytes: buffer.byteLength, dark: image(start, about.dark), lit: image(start + about.dark, about.lit) };
}
