/*
 * Feeds a fuzz target without libFuzzer: every file of the folders named, then what lies near it: its beginnings, and small
 * changes that are the same in every run. So the kept inputs stay a test, with any compiler.
 *   TARGET [-near=N] FOLDER|FILE...     N inputs near each file, default 1000; 0: the files alone
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

enum { FILE_MAX = 4 << 20 };

static size_t near = 1000;

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    return 0;
}

static uint64_t next_number(uint64_t *state) /* splitmix64, Steele et al. 2014 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void feed(const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1); /* of exactly this size: ASan sees the first byte past it */
    if (!exact)
        abort();
    if (len > 0)
        memcpy(exact, bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static void feed_near(uint8_t *bytes, size_t len)
{
    size_t cuts = near / 2, step = cuts ? len / cuts + 1 : 0;
    for (size_t cut = 0; step > 0 && cut < len; cut += step)
        feed(bytes, cut);
    uint64_t state = len;
    for (size_t i = cuts; i < near && len > 0; i++) {
        uint64_t n = next_number(&state);
        size_t at = (n >> 16) % len;
        uint8_t before = bytes[at];
        static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        bytes[at] = n & 1 ? edges[(n >> 1) % sizeof(edges)] : before ^ (uint8_t)(1u << ((n >> 1) % 8));
        feed(bytes, len);
        bytes[at] = before;
    }
}

static void feed_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = malloc(FILE_MAX);
    if (!f || !bytes) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    size_t len = fread(bytes, 1, FILE_MAX, f);
    fclose(f);
    feed(bytes, len);
    feed_near(bytes, len);
    free(bytes);
}

static size_t feed_folder(const char *path)
{
    size_t files = 0;
    DIR *d = opendir(path);
    struct dirent *entry;

    if (!d) {
        feed_file(path);
        return 1;
    }
    while ((entry = readdir(d))) {
        char file[4096];
        struct stat st;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        if (stat(file, &st) == 0 && S_ISREG(st.st_mode)) {
            feed_file(file);
            files++;
        }
    }
    closedir(d);
    return files;
}

int main(int argc, char **argv)
{
    size_t files = 0;

    LLVMFuzzerInitialize(&argc, &argv);
    feed((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-near=", 6) == 0)
            near = strtoul(argv[i] + 6, NULL, 10);
        else
            files += feed_folder(argv[i]);
    }
    if (argc > 1 && files == 0) {
        fprintf(stderr, "no inputs given\n");
        return 1;
    }
    printf("%zu inputs and what is near them\n", files);
    return 0;
}
