/* Answers LOOKUP from a table through libfuse: the least cost of a client on libfuse.

   libfuse MOUNTPOINT LIST, as device.c. The loop is the one that CVMFS's client runs (cvmfs/loader.cc): the low-level
   interface, several threads, each with a descriptor of its own. */

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#include "names.h"

static struct stat describe(uint64_t number)
{
    return (struct stat){
        .st_ino = number,
        .st_mode = is_directory(number) ? 040755 : 0100644,
        .st_nlink = 1,
        .st_size = 100,
    };
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct node *found = *place(parent, name);
    struct fuse_entry_param entry = {.attr_timeout = UINT32_MAX, .entry_timeout = UINT32_MAX};
    if (found) {
        entry.ino = found->number;
        entry.attr = describe(found->number);
    }
    fuse_reply_entry(request, &entry);
}

static void getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct stat found = describe(number);
    (void)info;
    fuse_reply_attr(request, &found, UINT32_MAX);
}

static const struct fuse_lowlevel_ops operations = {.lookup = lookup, .getattr = getattr};

int main(int count, char **arguments)
{
    char *options[] = {"libfuse", "-ofsname=floor,ro,default_permissions"};
    struct fuse_args args = FUSE_ARGS_INIT(2, options);
    if (count != 3)
        return 2;
    read_list(arguments[2]);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    if (!session || !config || fuse_session_mount(session, arguments[1]) || fuse_daemonize(0))
        return 1;
    fuse_loop_cfg_set_clone_fd(config, 1);
    return fuse_session_loop_mt(session, config) != 0;
}
