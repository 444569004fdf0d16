/* Answers LOOKUP from a table over /dev/fuse and does nothing else: the cost of the kernel alone.

   device MOUNTPOINT LIST: LIST has one path a line. Returns once it is mounted; serves in the background until the
   mount ends. Needs root. */

#include "wire.h"

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    serve_device(mount_names(arguments[1], arguments[2]), 0);
    return 0;
}
