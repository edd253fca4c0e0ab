/* A process that does as it is told, one line at a time, and answers each line with one of its own.
 * It is C so that it is a small, separate program with threads, forks and ids under its own control. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int connection = -1;

static int dial(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* inherited by children and over exec on purpose */
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return -1;
    return fd;
}

static void answer(int ok) {
    if (ok) printf("ok\n");
    else printf("%s\n", strerror(errno));
}

static void *obey(void *unused) {
    static char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *argument = strchr(line, ' ');
        if (argument) *argument++ = 0;
        if (!strcmp(line, "connect")) {
            answer((connection = dial(argument)) >= 0);
        } else if (!strcmp(line, "connect-many")) { /* PATH COUNT */
            char *count = strchr(argument, ' ');
            *count++ = 0;
            int ok = 1;
            for (int i = atoi(count); i > 0 && ok; i--) ok = dial(argument) >= 0;
            answer(ok);
        } else if (!strcmp(line, "hang-up")) {
            answer(close(connection) == 0);
        } else if (!strcmp(line, "connect-and-die")) { /* a child does, and is reaped */
            pid_t child = fork();
            if (child == 0) _exit(dial(argument) < 0);
            int status = 0;
            answer(waitpid(child, &status, 0) == child && status == 0);
        } else if (!strcmp(line, "lend")) { /* an accomplice keeps the connection */
            pid_t child = fork();
            if (child == 0) {
                char byte;
                close(0);
                close(1);
                while (read(connection, &byte, 1) > 0) {
                }
                _exit(0);
            }
            answer(child > 0);
        } else if (!strcmp(line, "become-user")) {
            uid_t id = (uid_t)atol(argument);
            answer(setresuid(id, id, id) == 0);
        } else if (!strcmp(line, "act-as-user")) {
            answer(seteuid((uid_t)atol(argument)) == 0);
        } else if (!strcmp(line, "become-group")) {
            gid_t id = (gid_t)atol(argument);
            answer(setresgid(id, id, id) == 0);
        } else if (!strcmp(line, "exec")) {
            char *arguments[] = {argument, NULL};
            printf("ok\n");
            fflush(stdout);
            execv(argument, arguments);
            answer(0);
        } else if (!strcmp(line, "fail-to-exec")) { /* the kernel opens the program, and then has too little room */
            size_t length = 1 << 20;
            char *long_one = malloc(length + 1);
            memset(long_one, 'x', length);
            long_one[length] = 0;
            char *arguments[] = {argument, long_one, NULL};
            answer(execv(argument, arguments) < 0 && errno == E2BIG);
            free(long_one);
        } else if (!strcmp(line, "exit")) {
            exit(0);
        } else {
            printf("unknown: %s\n", line);
        }
        fflush(stdout);
    }
    exit(0);
}

int main(int argc, char **argv) {
    /* Not to outlive a test that failed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    printf("ready\n");
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "without-leader")) {
        pthread_t other;
        pthread_create(&other, NULL, obey, NULL);
        pthread_exit(NULL); /* the process goes on without its first thread */
    }
    obey(NULL);
}
