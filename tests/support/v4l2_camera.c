/* A V4L2 camera for machines that have none: preloaded into a process, it answers the ioctls on FIFOs called video*.

   Each byte written into the FIFO is a picture: 'u' unplugs the camera, 'e' is a buffer that the driver marks as
   broken, 'c' a picture that was cut off, any other a whole one. No byte is a camera that is silent; poll() and reads
   of the FIFO are the kernel's own. FIFO.jpg holds the JPEG to send, FIFO.yuyv what it sends as YUYV (greys without
   it), FIFO.busy makes the camera busy. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFERS 4
#define ROOM (4 << 20)

struct mode { __u32 format, width, height, fps; };
static const struct mode modes[] = {
    {V4L2_PIX_FMT_YUYV, 640, 480, 30},  {V4L2_PIX_FMT_YUYV, 1280, 720, 10},  {V4L2_PIX_FMT_YUYV, 1920, 1080, 2},
    {V4L2_PIX_FMT_MJPEG, 640, 480, 30}, {V4L2_PIX_FMT_MJPEG, 1280, 720, 30}, {V4L2_PIX_FMT_MJPEG, 1920, 1080, 30},
    {v4l2_fourcc('Z', '1', '6', ' '), 640, 480, 30},
};
static const __u32 formats[] = {V4L2_PIX_FMT_YUYV, V4L2_PIX_FMT_MJPEG, v4l2_fourcc('Z', '1', '6', ' ')};
static const int count = sizeof modes / sizeof *modes;

static struct { struct mode mode; unsigned char *buffers[BUFFERS]; int queue[BUFFERS], queued, pictures; } cameras[1024];

static int camera_path(int fd, char *path) {
    char link[64];
    struct stat facts;
    if (fd < 0 || fd >= 1024 || fstat(fd, &facts) || !S_ISFIFO(facts.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 500);
    if (length <= 0) return 0;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    return name && !strncmp(name, "/video", 6);
}

static int fail(int number) { errno = number; return -1; }

static const struct mode *nth(__u32 format, __u32 index) {
    for (int i = 0; i < count; i++)
        if (modes[i].format == format && index-- == 0) return &modes[i];
    return NULL;
}

static void describe(struct v4l2_format *format, const struct mode *mode) {
    struct v4l2_pix_format *pix = &format->fmt.pix;
    memset(pix, 0, sizeof *pix);
    pix->width = mode->width, pix->height = mode->height, pix->pixelformat = mode->format;
    pix->field = V4L2_FIELD_NONE, pix->bytesperline = mode->format == V4L2_PIX_FMT_MJPEG ? 0 : 2 * mode->width;
    pix->sizeimage = mode->format == V4L2_PIX_FMT_MJPEG ? ROOM : 2 * mode->width * mode->height;
}

static int dequeue(int fd, const char *path, struct v4l2_buffer *buffer) {
    char what, name[600];
    if (!cameras[fd].queued) return fail(EINVAL);
    if (read(fd, &what, 1) != 1) return -1;
    if (what == 'u') return fail(ENODEV);
    int index = cameras[fd].queue[0];
    memmove(cameras[fd].queue, cameras[fd].queue + 1, --cameras[fd].queued * sizeof(int));
    const struct mode *mode = &cameras[fd].mode;
    int jpeg = mode->format == V4L2_PIX_FMT_MJPEG;
    size_t size = jpeg ? 0 : 2 * mode->width * mode->height;
    memset(cameras[fd].buffers[index], 40 + cameras[fd].pictures % 100, size);
    snprintf(name, sizeof name, "%s.%s", path, jpeg ? "jpg" : "yuyv");
    FILE *file = fopen(name, "rb");
    if (file) {
        size_t got = fread(cameras[fd].buffers[index], 1, jpeg ? ROOM : size, file);
        fclose(file);
        if (jpeg) size = what == 'c' ? got * 2 / 3 : got;
    }
    cameras[fd].pictures++;
    buffer->index = index, buffer->bytesused = size, buffer->sequence = cameras[fd].pictures;
    buffer->flags = what == 'e' ? V4L2_BUF_FLAG_ERROR : 0;
    return 0;
}

static int answer(int fd, const char *path, unsigned long request, void *argument) {
    char busy[600];
    snprintf(busy, sizeof busy, "%s.busy", path);
    if (!cameras[fd].mode.format) cameras[fd].mode = modes[0];
    switch ((unsigned)request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *caps = argument;
        memset(caps, 0, sizeof *caps);
        strcpy((char *)caps->driver, "fifo"), strcpy((char *)caps->card, "Night Camera");
        caps->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        caps->capabilities = caps->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = argument;
        if (format->index >= sizeof formats / sizeof *formats) return fail(EINVAL);
        format->pixelformat = formats[format->index];
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *size = argument;
        const struct mode *mode = nth(size->pixel_format, size->index);
        if (!mode) return fail(EINVAL);
        size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        size->discrete.width = mode->width, size->discrete.height = mode->height;
        return 0;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *interval = argument;
        for (int i = 0; i < count && interval->index < 2; i++)
            if (modes[i].format == interval->pixel_format && modes[i].width == interval->width) {
                interval->type = V4L2_FRMIVAL_TYPE_DISCRETE;
                interval->discrete.numerator = 1 + interval->index; /* the second is half as fast */
                interval->discrete.denominator = modes[i].fps;
                return 0;
            }
        return fail(EINVAL);
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_ENUMINPUT: memset((char *)argument + 4, 0, sizeof(struct v4l2_input) - 4); return 0;
    case VIDIOC_G_FMT: describe(argument, &cameras[fd].mode); return 0;
    case VIDIOC_S_FMT: {
        struct v4l2_format *format = argument;
        const struct v4l2_pix_format *asked = &format->fmt.pix;
        if (!access(busy, F_OK)) return fail(EBUSY);
        for (int i = 0; i < count; i++)
            if (modes[i].format == asked->pixelformat && modes[i].width == asked->width && modes[i].height == asked->height)
                cameras[fd].mode = modes[i];
        describe(format, &cameras[fd].mode); /* what it cannot it answers with what it has, as drivers do */
        return 0;
    }
    case VIDIOC_REQBUFS: ((struct v4l2_requestbuffers *)argument)->count = BUFFERS; return 0;
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->length = ROOM, buffer->m.offset = buffer->index * ROOM;
        return 0;
    }
    case VIDIOC_QBUF: {
        struct v4l2_buffer *buffer = argument;
        cameras[fd].queue[cameras[fd].queued++] = buffer->index;
        return 0;
    }
    case VIDIOC_DQBUF: return dequeue(fd, path, argument);
    case VIDIOC_STREAMON: return 0;
    case VIDIOC_STREAMOFF: memset(&cameras[fd], 0, sizeof cameras[fd]); return 0;
    }
    return fail(ENOTTY);
}

int ioctl(int fd, unsigned long request, ...) {
    char path[520];
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (camera_path(fd, path)) return answer(fd, path, request, argument);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}

static void *map(const char *name, void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    char path[520];
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, name);
    if (fd < 0 || !camera_path(fd, path)) return real(at, length, protection, flags, fd, offset);
    void *made = real(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cameras[fd].buffers[offset / ROOM] = made;
    return made;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return map("mmap", at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return map("mmap64", at, length, protection, flags, fd, offset);
}
