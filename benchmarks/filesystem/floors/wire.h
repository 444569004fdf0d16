/* The answers of a FUSE filesystem that has names and nothing else, as they go over the wire, and its mount. */

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <unistd.h>

#include "names.h"

static void describe(struct fuse_attr *attr, uint64_t number)
{
    attr->ino = number;
    attr->mode = is_directory(number) ? 040755 : 0100644;
    attr->nlink = 1;
    attr->size = 100;
    attr->blksize = 4096;
}

static uint32_t more_flags;
/* For INIT: the upper half of its flags. */

static size_t answer(const struct fuse_in_header *in, const char *payload, char *out)
{
    if (in->opcode == FUSE_INIT) {
        struct fuse_init_out *init = (void *)out;
        init->major = FUSE_KERNEL_VERSION;
        init->minor = 42;
        init->max_readahead = 1 << 20;
        init->flags = FUSE_PARALLEL_DIROPS | FUSE_INIT_EXT;
        init->flags2 = more_flags;
        init->max_write = 4096;
        init->time_gran = 1;
        return sizeof *init;
    }
    if (in->opcode == FUSE_LOOKUP) {
        struct fuse_entry_out *entry = (void *)out;
        struct node *found = *place(in->nodeid, payload);
        entry->entry_valid = entry->attr_valid = UINT32_MAX;
        if (found) {
            entry->nodeid = found->number;
            describe(&entry->attr, found->number);
        }
        return sizeof *entry;
    }
    if (in->opcode == FUSE_GETATTR) {
        struct fuse_attr_out *attr = (void *)out;
        attr->attr_valid = UINT32_MAX;
        describe(&attr->attr, in->nodeid);
        return sizeof *attr;
    }
    return 0;
}

/* Answers the requests read from the device, until the mount ends. Calls `start_queues`, if given, after INIT. From then
   on no LOOKUP may come over the device. */
static void serve_device(int device, void (*start_queues)(void))
{
    static char request[1 << 17];
    static struct {
        struct fuse_out_header head;
        char body[256];
    } reply;
    for (;;) {
        const struct fuse_in_header *in = (void *)request;
        if (read(device, request, sizeof request) < 0) {
            if (errno == ENODEV)
                return;
            continue;
        }
        if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
            continue;
        memset(&reply, 0, sizeof reply);
        size_t length = answer(in, request + sizeof *in, reply.body);
        reply.head.unique = in->unique;
        reply.head.error = length ? 0 : -ENOSYS;
        reply.head.len = sizeof reply.head + length;
        if (write(device, &reply, reply.head.len) < 0 && errno == ENODEV)
            return;
        if (in->opcode == FUSE_INIT && start_queues)
            start_queues();
        if (in->opcode == FUSE_LOOKUP && start_queues)
            exit(8);
    }
}

/* Mounts at `place` and goes on in the background; returns the device there. */
static int mount_names(const char *place, const char *list)
{
    char options[200];
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0)
        exit(2);
    read_list(list);
    snprintf(options, sizeof options, "fd=%d,user_id=0,group_id=0,rootmode=40000,default_permissions", device);
    if (mount("floor", place, "fuse.floor", MS_RDONLY | MS_NOSUID | MS_NODEV, options)) {
        perror("floor: mount");
        exit(1);
    }
    if (fork())
        exit(0);
    setsid();
    for (int end = 0; end < 3; end++)
        close(end);
    return device;
}
