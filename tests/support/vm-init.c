/*
 * The first process of a kernel started by scripts/vm-run: makes the machine usable, runs one command, switches off.
 *
 * What to do comes in one job file, named by the environment variable KETTLE_VM_JOB (a kernel parameter the kernel does not
 * know becomes one). The file is a row of NUL-terminated "key=value" records:
 *
 *   module=FILE     insert this kernel module; in the order given, so dependencies first
 *   root9p=TAG      mount the 9p share TAG and make it the root (QEMU; under User-Mode Linux the root is already the host's)
 *   keep=DIR        lies below /tmp, /var/tmp or /run, which become empty: bind the host's DIR there again, read-only
 *   rw=DIR          mount the host's DIR writable, at the same path: hostfs, or 9p where rw9p=TAG comes right after it
 *   tty=DEVICE      the command's output goes here, byte for byte
 *   started=FILE    made when all is ready and the command comes next; lies in a directory named by rw, like status
 *   status=FILE     where the exit status goes, a decimal number
 *   power=off|reboot   how to end: off for User-Mode Linux, reboot for QEMU with -no-reboot
 *   env=NAME=VALUE, cwd=DIR, arg=STRING   the command
 *
 * It is linked statically, because there may be nothing to load a library from yet. Messages go to the console, which
 * vm-run shows only if the machine ends without a status. Any failure before the command is a failure of the machine: neither
 * file is written, and vm-run takes another kernel rather than this for the command's own status.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MAX_RECORDS 1024

struct record {
    const char *key;
    const char *value;
};

static struct record job[MAX_RECORDS];
static size_t job_len;

static const char *job_get(const char *key) {
    for (size_t i = 0; i < job_len; i++)
        if (!strcmp(job[i].key, key)) return job[i].value;
    return NULL;
}

static void power_down(void) {
    const char *how = job_get("power");
    sync();
    reboot(how && !strcmp(how, "reboot") ? RB_AUTOBOOT : RB_POWER_OFF);
    for (;;) pause();
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("vm-init: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

#define fatal(...)                                                                                                               \
    do {                                                                                                                         \
        say(__VA_ARGS__);                                                                                                        \
        power_down();                                                                                                            \
    } while (0)

/* Reads the whole job before anything is mounted over it. */
static void job_read(const char *path) {
    static char text[1 << 18];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fatal("%s: %s", path, strerror(errno));
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, text + len, sizeof text - 1 - len)) > 0) len += (size_t)n;
    close(fd);
    if (n < 0 || len == sizeof text - 1) fatal("%s: too long or unreadable", path);
    for (char *p = text; p < text + len; p += strlen(p) + 1) {
        char *eq = strchr(p, '=');
        if (!eq || job_len == MAX_RECORDS) fatal("%s: bad record '%.40s'", path, p);
        *eq = '\0';
        job[job_len++] = (struct record){ p, eq + 1 };
        p = eq + 1;
    }
}

/* Missing processor features (ENODEV) and what is built in already (EEXIST) are no failure: tls itself is checked for below. */
static void modules_insert(void) {
    for (size_t i = 0; i < job_len; i++) {
        if (strcmp(job[i].key, "module")) continue;
        int fd = open(job[i].value, O_RDONLY | O_CLOEXEC);
        if (fd < 0) fatal("%s: %s", job[i].value, strerror(errno));
        if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST && errno != ENODEV)
            say("%s: %s", job[i].value, strerror(errno));
        close(fd);
    }
}

static void mkdir_p(const char *path) {
    char part[4096];
    for (size_t i = 1; path[i - 1] && i < sizeof part; i++) {
        if (path[i] && path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        mkdir(part, 0755);
    }
}

static void must_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    if (mount(source, target, type, flags, data)) fatal("mount %s on %s (%s): %s", source, target, type, strerror(errno));
}

/* QEMU: from the initial RAM disk to the host's files. */
static void root_switch(const char *tag) {
    mkdir("/root", 0755);
    must_mount(tag, "/root", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=512000,cache=loose");
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        fatal("cannot make the host's files the root: %s", strerror(errno));
}

static void mount_system(void) {
    must_mount("proc", "/proc", "proc", 0, NULL);
    must_mount("sys", "/sys", "sysfs", 0, NULL);
    /* Some kernels have mounted it already. */
    if (mount("dev", "/dev", "devtmpfs", 0, NULL) && errno != EBUSY) fatal("mount /dev: %s", strerror(errno));
    mkdir("/dev/pts", 0755);
    mkdir("/dev/shm", 01777);
    must_mount("devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666");
    must_mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777");
    symlink("/proc/self/fd", "/dev/fd");
    symlink("/proc/self/fd/0", "/dev/stdin");
    symlink("/proc/self/fd/1", "/dev/stdout");
    symlink("/proc/self/fd/2", "/dev/stderr");
}

/* The empty, writable places, with what the job needs of the old ones bound back through descriptors held meanwhile. */
static void mount_scratch(void) {
    int held[MAX_RECORDS];
    for (size_t i = 0; i < job_len; i++) {
        if (strcmp(job[i].key, "keep")) continue;
        held[i] = open(job[i].value, O_PATH | O_CLOEXEC);
        if (held[i] < 0) fatal("%s: %s", job[i].value, strerror(errno));
    }
    must_mount("tmp", "/tmp", "tmpfs", 0, "mode=1777");
    must_mount("tmp", "/var/tmp", "tmpfs", 0, "mode=1777");
    must_mount("run", "/run", "tmpfs", 0, "mode=755");
    mkdir("/run/lock", 01777);
    for (size_t i = 0; i < job_len; i++) {
        if (strcmp(job[i].key, "keep")) continue;
        char from[32];
        snprintf(from, sizeof from, "/proc/self/fd/%d", held[i]);
        mkdir_p(job[i].value);
        must_mount(from, job[i].value, NULL, MS_BIND, NULL);
        close(held[i]);
    }
}

static void mount_writable(void) {
    for (size_t i = 0; i < job_len; i++) {
        if (strcmp(job[i].key, "rw")) continue;
        const char *dir = job[i].value;
        mkdir_p(dir);
        if (i + 1 < job_len && !strcmp(job[i + 1].key, "rw9p"))
            must_mount(job[i + 1].value, dir, "9p", 0, "trans=virtio,version=9p2000.L,msize=512000");
        else
            must_mount("none", dir, "hostfs", 0, dir);
    }
}

static void loopback_up(void) {
    struct ifreq req = { .ifr_flags = IFF_UP | IFF_RUNNING };
    snprintf(req.ifr_name, sizeof req.ifr_name, "lo");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &req)) fatal("lo: %s", strerror(errno));
    close(fd);
}

static void write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        say("%s: %s", path, strerror(errno));
        return;
    }
    if (write(fd, text, strlen(text)) < 0) say("%s: %s", path, strerror(errno));
    close(fd);
}

/* Opened without becoming the controlling terminal: process groups of the command must not matter to its output. */
static int tty_open(const char *path) {
    int fd = open(path, O_WRONLY | O_NOCTTY);
    struct termios raw;
    if (fd < 0 || tcgetattr(fd, &raw)) fatal("%s: %s", path, strerror(errno));
    cfmakeraw(&raw);
    cfsetspeed(&raw, B115200);
    if (tcsetattr(fd, TCSANOW, &raw)) fatal("%s: %s", path, strerror(errno));
    return fd;
}

/* In the child. Does not return. */
static void command_exec(int out) {
    static char *argv[MAX_RECORDS];
    size_t argc = 0;
    clearenv();
    for (size_t i = 0; i < job_len; i++) {
        if (!strcmp(job[i].key, "arg")) argv[argc++] = (char *)(size_t)job[i].value;
        if (!strcmp(job[i].key, "env")) putenv((char *)(size_t)job[i].value);
    }
    int in = open("/dev/null", O_RDONLY);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    for (int fd = 3; fd < 64; fd++) close(fd);
    setsid();
    const char *cwd = job_get("cwd");
    if (cwd && chdir(cwd)) {
        fprintf(stderr, "vm-run: %s: %s\n", cwd, strerror(errno));
        _exit(125);
    }
    execvp(argv[0], argv);
    fprintf(stderr, "vm-run: %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

/* The first process inherits every orphan: reap them all, return when the command itself has ended. */
static int command_run(int out) {
    pid_t child = fork();
    if (child < 0) fatal("fork: %s", strerror(errno));
    if (child == 0) command_exec(out);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0 && errno == ECHILD) fatal("the command was lost");
        if (pid == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

int main(void) {
    const char *path = getenv("KETTLE_VM_JOB");
    if (getpid() != 1 || !path) {
        fputs("vm-init: started by scripts/vm-run as the first process of a kernel, not by hand\n", stderr);
        return 2;
    }
    job_read(path);
    modules_insert();
    if (job_get("root9p")) root_switch(job_get("root9p"));
    mount_system();
    mount_scratch();
    mount_writable();
    loopback_up();
    if (access("/proc/net/tls_stat", R_OK)) fatal("the kernel has no /proc/net/tls_stat: kernel TLS did not load");
    sethostname("kettle-vm", 9);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 65536, 65536 });
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    write_text("/proc/sys/vm/overcommit_memory", "1");

    int out = tty_open(job_get("tty"));
    write_text(job_get("started"), "");
    char status[16];
    snprintf(status, sizeof status, "%d\n", command_run(out));
    tcdrain(out);
    kill(-1, SIGKILL);
    write_text(job_get("status"), status);
    power_down();
}
