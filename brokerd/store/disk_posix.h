/* What a struct file of disk_posix.c is to the system, for the log writer that goes past disk_ops. */
#ifndef STORE_DISK_POSIX_H
#define STORE_DISK_POSIX_H

struct file;
int file_fd(const struct file *f);
/* The same file opened with O_DIRECT, at the first call; -1: the file system does not do that. */
int file_direct_fd(struct file *f);
void file_direct_drop(struct file *f); /* from now on: -1 */

#endif
