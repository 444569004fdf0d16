/* A table of names, from which the programs beside it answer. */

#define _GNU_SOURCE

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM (1 << 18)
#define ROOT 1

struct node {
    uint64_t parent, number;
    char *name;
    int is_directory;
};

static struct node *table[ROOM], *by_number[ROOM];
static uint64_t nodes = ROOT;

static struct node **place(uint64_t parent, const char *name)
{
    uint64_t hash = parent * 0x9E3779B97F4A7C15u;
    for (const char *at = name; *at; at++)
        hash = hash * 31 + (unsigned char)*at;
    while (table[hash %= ROOM] && (table[hash]->parent != parent || strcmp(table[hash]->name, name)))
        hash++;
    return &table[hash];
}

static uint64_t add(uint64_t parent, const char *name, int is_directory)
{
    struct node **found = place(parent, name);
    if (!*found) {
        if (nodes + 2 >= ROOM / 2)
            exit(3);
        *found = malloc(sizeof **found);
        **found = (struct node){parent, ++nodes, strdup(name), is_directory};
        by_number[nodes] = *found;
    }
    return (*found)->number;
}

static void read_list(const char *path)
{
    char line[8192];
    FILE *list = fopen(path, "r");
    if (!list)
        exit(2);
    while (fgets(line, sizeof line, list)) {
        uint64_t parent = ROOT;
        char *name = line, *slash;
        line[strcspn(line, "\n")] = 0;
        for (; (slash = strchr(name, '/')); name = slash + 1) {
            *slash = 0;
            parent = add(parent, name, 1);
        }
        add(parent, name, 0);
    }
    fclose(list);
}

static int is_directory(uint64_t number)
{
    return number == ROOT || by_number[number]->is_directory;
}
