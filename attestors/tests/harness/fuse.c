/* A file system of one file, served by this process: DIRECTORY/program has the bytes of SOURCE.
 * Then that file is run by its OWNER in place of this process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int device;
static char content[8 << 20];
static size_t size;

static void reply(struct fuse_in_header *to, int error, const void *data, size_t length) {
    static char message[2 << 20];
    struct fuse_out_header header = {.len = sizeof header + length, .error = -error, .unique = to->unique};
    memcpy(message, &header, sizeof header);
    if (length) memcpy(message + sizeof header, data, length);
    if (write(device, message, header.len) < 0 && errno != ENOENT) exit(1);
}

static struct fuse_attr attributes(uint64_t node) {
    struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = 4096};
    attr.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0755;
    attr.size = node == FUSE_ROOT_ID ? 0 : size;
    return attr;
}

static void serve(void) {
    static char request[2 << 20];
    while (read(device, request, sizeof request) > 0) {
        struct fuse_in_header *header = (void *)request;
        void *argument = header + 1;
        switch (header->opcode) {
        case FUSE_INIT: {
            struct fuse_init_out out = {.major = 7, .minor = 31, .max_readahead = 1 << 17, .max_write = 1 << 17};
            reply(header, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP: {
            struct fuse_entry_out out = {.nodeid = 2, .entry_valid = 1, .attr = attributes(2)};
            if (strcmp(argument, "program")) reply(header, ENOENT, NULL, 0);
            else reply(header, 0, &out, sizeof out);
            break;
        }
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {.attr_valid = 1, .attr = attributes(header->nodeid)};
            reply(header, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN: {
            struct fuse_open_out out = {.fh = 1};
            reply(header, 0, &out, sizeof out);
            break;
        }
        case FUSE_READ: {
            struct fuse_read_in *in = argument;
            size_t from = in->offset > size ? size : in->offset;
            size_t length = size - from < in->size ? size - from : in->size;
            reply(header, 0, content + from, length);
            break;
        }
        case FUSE_STATFS: {
            struct fuse_statfs_out out = {.st = {.bsize = 4096, .namelen = 255}};
            reply(header, 0, &out, sizeof out);
            break;
        }
        case FUSE_FLUSH:
        case FUSE_RELEASE:
            reply(header, 0, NULL, 0);
            break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
            break;
        default:
            reply(header, ENOSYS, NULL, 0);
        }
    }
    exit(0);
}

int main(int argc, char **argv) { /* SOURCE DIRECTORY OWNER OPTIONS */
    char options[256], program[4096];
    int owner = atoi(argv[3]);
    FILE *source = fopen(argv[1], "r");
    if (argc != 5 || !source) return 2;
    size = fread(content, 1, sizeof content, source);
    fclose(source);
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=%d,group_id=%d%s", device, owner, owner, argv[4]);
    if (mount("test", argv[2], "fuse.test", MS_NOSUID | MS_NODEV, options)) return perror("mount"), 3;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve();
    }
    snprintf(program, sizeof program, "%s/program", argv[2]);
    if (setresgid(owner, owner, owner) || setresuid(owner, owner, owner)) return 4;
    execl(program, "cat", NULL);
    return perror("exec"), 5;
}
