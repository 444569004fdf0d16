/* Answers LOOKUP from a table over /dev/fuse and does nothing else: what the kernel alone costs.

   device MOUNTPOINT LIST: LIST has one path a line. Returns when it is mounted; ends with the mount. Needs root. */

#include "wire.h"

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    serve_device(mount_names(arguments[1], arguments[2]), 0);
    return 0;
}
