/* Answers LOOKUP from a table over io_uring: the least cost of FUSE over io_uring (Linux 6.14, linux/fuse.h 7.42).

   uring MOUNTPOINT LIST, as device.c. /sys/module/fuse/parameters/enable_uring must be Y before the mount. The kernel
   wants one queue for each possible CPU; a thread serves each. Requests without an answer go over the device. */

#define _GNU_SOURCE

#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "wire.h"

/* Definitions that Debian 12's linux/fuse.h and linux/io_uring.h lack. */
#define FUSE_OVER_IO_URING_UPPER (1u << 9)
#define FUSE_IO_URING_CMD_REGISTER 1
#define FUSE_IO_URING_CMD_COMMIT_AND_FETCH 2
#define SINGLE_ISSUER_DEFER_TASKRUN (1u << 12 | 1u << 13)

struct fuse_uring_req_header {
    char in_out[128], op_in[128];
    uint64_t flags, commit_id;
    uint32_t payload_size, padding;
    uint64_t reserved;
};

struct fuse_uring_cmd_req {
    uint64_t flags, commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

#define SLOTS 4
#define PAYLOAD (1 << 20)

struct slot {
    struct fuse_uring_req_header head;
    struct iovec parts[2];
};

struct queue {
    uint16_t number;
    int ring;
    char *shared, *entries;
    struct io_uring_params params;
    unsigned waiting;
    struct slot slots[SLOTS];
};

static int device;

static void *mapped(size_t size, int file, uint64_t offset)
{
    int flags = MAP_POPULATE | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    void *found = mmap(0, size, PROT_READ | PROT_WRITE, flags, file, offset);
    if (found == MAP_FAILED)
        exit(4);
    return found;
}

static void submit(struct queue *queue, unsigned slot, uint32_t command)
{
    struct io_sqring_offsets *at = &queue->params.sq_off;
    uint32_t *tail = (void *)(queue->shared + at->tail), mask = *(uint32_t *)(queue->shared + at->ring_mask);
    uint32_t *order = (void *)(queue->shared + at->array), place = *tail & mask;
    struct io_uring_sqe *entry = (void *)(queue->entries + place * 128);
    memset(entry, 0, 128);
    entry->opcode = IORING_OP_URING_CMD;
    entry->fd = device;
    entry->cmd_op = command;
    entry->user_data = slot;
    entry->addr = (uintptr_t)queue->slots[slot].parts;
    entry->len = 2;
    struct fuse_uring_cmd_req *request = (void *)entry->cmd;
    request->queue = queue->number;
    request->commit_id = queue->slots[slot].head.commit_id;
    order[place] = place;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    queue->waiting++;
}

static void serve_slot(struct queue *queue, unsigned number)
{
    struct slot *slot = &queue->slots[number];
    struct fuse_in_header in = *(struct fuse_in_header *)slot->head.in_out;
    struct fuse_out_header *out = (void *)slot->head.in_out;
    char body[256] = {0};
    size_t length = answer(&in, slot->parts[1].iov_base, body);
    memcpy(slot->parts[1].iov_base, body, length);
    *out = (struct fuse_out_header){sizeof *out + length, length ? 0 : -ENOSYS, in.unique};
    slot->head.payload_size = length;
    submit(queue, number, FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
}

static void *serve_queue(void *argument)
{
    struct queue *queue = argument;
    queue->params.flags = IORING_SETUP_SQE128 | SINGLE_ISSUER_DEFER_TASKRUN;
    queue->ring = syscall(__NR_io_uring_setup, 2 * SLOTS, &queue->params);
    if (queue->ring < 0)
        exit(3);
    struct io_cqring_offsets *at = &queue->params.cq_off;
    queue->shared = mapped(at->cqes + queue->params.cq_entries * 16, queue->ring, IORING_OFF_SQ_RING);
    queue->entries = mapped(queue->params.sq_entries * 128, queue->ring, IORING_OFF_SQES);
    uint32_t *head = (void *)(queue->shared + at->head), *tail = (void *)(queue->shared + at->tail);
    uint32_t mask = *(uint32_t *)(queue->shared + at->ring_mask);
    struct io_uring_cqe *done = (void *)(queue->shared + at->cqes);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        queue->slots[slot].parts[0] = (struct iovec){&queue->slots[slot].head, sizeof(struct fuse_uring_req_header)};
        queue->slots[slot].parts[1] = (struct iovec){mapped(PAYLOAD, -1, 0), PAYLOAD};
        submit(queue, slot, FUSE_IO_URING_CMD_REGISTER);
    }
    for (;;) {
        int taken = syscall(__NR_io_uring_enter, queue->ring, queue->waiting, 1, IORING_ENTER_GETEVENTS, 0, 0);
        if (taken < 0 && errno != EINTR)
            exit(5);
        queue->waiting -= taken < 0 ? 0 : taken;
        for (; *head != __atomic_load_n(tail, __ATOMIC_ACQUIRE); __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE)) {
            struct io_uring_cqe *one = &done[*head & mask];
            if (one->res == -EAGAIN)
                submit(queue, one->user_data, FUSE_IO_URING_CMD_REGISTER); /* INIT is still being taken in */
            else if (one->res < 0)
                exit(one->res == -ENOTCONN || one->res == -ENODEV ? 0 : 6);
            else
                serve_slot(queue, one->user_data);
        }
    }
}

static void start_queues(void)
{
    for (long number = 0; number < sysconf(_SC_NPROCESSORS_CONF); number++) {
        pthread_t thread;
        struct queue *queue = calloc(1, sizeof *queue);
        queue->number = number;
        if (pthread_create(&thread, 0, serve_queue, queue))
            exit(7);
    }
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    more_flags = FUSE_OVER_IO_URING_UPPER;
    device = mount_names(arguments[1], arguments[2]);
    serve_device(device, start_queues);
    return 0;
}
