"use strict";
// Looks around in an equirectangular picture. Yaw 0 is its centre column, positive to the right; pitch is
// positive up: the convention of panovlm/model/sphere.py.

const VERTEX = `#version 300 es
in vec2 corner; out vec2 at;
void main() { at = corner; gl_Position = vec4(corner, 0.0, 1.0); }`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D panorama; uniform vec2 look; uniform vec2 slope;
in vec2 at; out vec4 colour;
const float PI = 3.14159265358979;
void main() {
  vec3 ray = normalize(vec3(at * slope, 1.0));
  float c = cos(look.y), s = sin(look.y);
  ray = vec3(ray.x, ray.y * c + ray.z * s, ray.z * c - ray.y * s);
  float yaw = atan(ray.x, ray.z) + look.x;
  colour = texture(panorama, vec2(yaw / (2.0 * PI) + 0.5, 0.5 - asin(clamp(ray.y, -1.0, 1.0)) / PI));
}`;

class Viewer {
  constructor(canvas, onLook) {
    this.canvas = canvas;
    this.onLook = onLook;
    this.yaw = 0; this.pitch = 0; this.fov = 90;
    this.gl = canvas.getContext("webgl2");
    if (!this.gl) throw new Error("this browser has no WebGL 2");
    this.program = this.build();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  build() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    return program;
  }

  async show(blob) {
    let bitmap = await createImageBitmap(blob);
    const gl = this.gl, most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (bitmap.width > most) {  // some graphics cards take no 8K picture
      const size = { resizeWidth: most, resizeHeight: Math.round(bitmap.height * most / bitmap.width) };
      bitmap = await createImageBitmap(bitmap, size);
    }
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    // Without mipmaps: at the seam the longitude jumps, and they would draw a line there.
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    this.isShowing = true;
    this.look(0, 0);
  }

  look(yaw, pitch) {
    this.yaw = ((yaw + 180) % 360 + 360) % 360 - 180;
    this.pitch = Math.max(-90, Math.min(90, pitch));
    this.onLook(this.yaw, this.pitch);
    this.draw();
  }

  turnTo(yaw, pitch) {
    const start = performance.now(), fromYaw = this.yaw, fromPitch = this.pitch;
    const way = ((yaw - fromYaw + 180) % 360 + 360) % 360 - 180;  // the shorter way round
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const turn = (this.turning = (now) => {
      if (this.turning !== turn) return;
      const share = calm ? 1 : Math.min(1, (now - start) / 800), eased = share * share * (3 - 2 * share);
      this.look(fromYaw + way * eased, fromPitch + (pitch - fromPitch) * eased);
      if (share < 1) requestAnimationFrame(turn);
    });
    requestAnimationFrame(turn);
  }

  zoom(factor) {
    this.fov = Math.max(20, Math.min(120, this.fov * factor));
    this.draw();
  }

  draw() {
    if (!this.isShowing) return;
    const gl = this.gl, canvas = this.canvas, rad = Math.PI / 180;
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    gl.viewport(0, 0, canvas.width, canvas.height);
    const slope = Math.tan(this.fov * rad / 2);
    gl.uniform2f(gl.getUniformLocation(this.program, "look"), this.yaw * rad, this.pitch * rad);
    gl.uniform2f(gl.getUniformLocation(this.program, "slope"), slope, slope * canvas.height / canvas.width);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  listen() {
    const canvas = this.canvas, degrees = () => this.fov / canvas.clientWidth;
    canvas.addEventListener("pointerdown", (event) => {
      this.turning = null;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      this.look(this.yaw - event.movementX * degrees(), this.pitch + event.movementY * degrees());
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.1 : 1 / 1.1);
    }, { passive: false });
    const keys = {
      ArrowLeft: () => this.look(this.yaw - 5, this.pitch), ArrowRight: () => this.look(this.yaw + 5, this.pitch),
      ArrowUp: () => this.look(this.yaw, this.pitch + 5), ArrowDown: () => this.look(this.yaw, this.pitch - 5),
      "+": () => this.zoom(1 / 1.1), "-": () => this.zoom(1.1),
    };
    canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      event.preventDefault();
      this.turning = null;
      keys[event.key]();
    });
  }
}
