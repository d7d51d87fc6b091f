// A driver that is none, for the tests of nvidia.rs: memory is malloc's, streams run at once, and the only kernel that it can run
// is relu_forward<f32>. A stream that captures runs nothing and keeps what it is given. FAKE_CUDA in the environment makes it
// misbehave; what it is asked to load, it tells on standard error.
//
// Calls that need a current context fail without one, as the real ones do. Built with -DOLD, it lacks the memory pools.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Code;
typedef uint64_t Address;

static _Thread_local void* current;
static char the_context;
static int contexts, live, events, modules, graphs;

static int mode(const char* name)
{
    const char* modes = getenv("FAKE_CUDA");
    return modes && strstr(modes, name);
}
#define NEEDS_CONTEXT                                                                                                          \
    if (current != &the_context)                                                                                               \
    return 201

Code cuInit(unsigned flags) { return mode("no_device") ? 100 : mode("stub") ? 34 : 0; }
Code cuDriverGetVersion(int* version) { return *version = mode("11.4") ? 11040 : 12090, 0; }
Code cuDeviceGetCount(int* count) { return *count = mode("two") ? 2 : 1, 0; }
Code cuDeviceGet(int* device, int number) { return *device = number, 0; }
Code cuDeviceGetName(char* name, int size, int device) { return snprintf(name, size, "Fake GPU"), 0; }
Code cuDeviceGetAttribute(int* value, int which, int device)
{
    switch (which) {
    case 75: *value = mode("turing") ? 7 : mode("hopper") ? 9 : mode("blackwell") ? 12 : 8; return 0;
    case 76: *value = mode("turing") ? 5 : 0; return 0;
    case 97: *value = 163 * 1024; return 0;
    case 115: *value = !mode("no_pools"); return 0;
    default: return 1;
    }
}
Code cuDevicePrimaryCtxRetain(void** context, int device) { return *context = &the_context, contexts++, 0; }
Code cuDevicePrimaryCtxRelease_v2(int device)
{
    contexts--;
    fprintf(stderr, "left: %d contexts, %d blocks, %d events, %d modules, %d graphs\n", contexts, live, events, modules, graphs);
    return 0;
}
Code cuCtxGetCurrent(void** context) { return *context = current, 0; }
Code cuCtxSetCurrent(void* context) { return current = context, 0; }

Code cuStreamCreate(void** stream, unsigned flags)
{
    NEEDS_CONTEXT;
    return *stream = malloc(1), flags == 1 ? 0 : 1;
}
Code cuStreamDestroy_v2(void* stream) { return free(stream), 0; }
Code cuStreamSynchronize(void* stream) { return 0; }
Code cuStreamWaitEvent(void* stream, void* event, unsigned flags) { return stream && event ? 0 : 400; }
Code cuEventCreate(void** event, unsigned flags)
{
    NEEDS_CONTEXT;
    return *event = calloc(1, sizeof(int)), events++, 0;
}
Code cuEventDestroy_v2(void* event) { return free(event), events--, 0; }
Code cuEventRecord(void* event, void* stream)
{
    NEEDS_CONTEXT;
    return *(int*)event = 2, 0;
}
Code cuEventSynchronize(void* event) { return 0; }
// Asked for the first time after a record, it says: not ready.
Code cuEventQuery(void* event) { return *(int*)event && --*(int*)event ? 600 : 0; }

Code cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = 1000, *total = 5000, 0; }
Code cuMemAlloc_v2(Address* at, size_t bytes)
{
    NEEDS_CONTEXT;
    static int asked;
    if (bytes > 1u << 30 && (!mode("oom_once") || !asked++))
        return 2;
    *at = (Address)aligned_alloc(256, (bytes + 255) / 256 * 256);
    live++;
    return 0;
}
Code cuMemFree_v2(Address at) { return free((void*)at), live--, 0; }
#ifndef OLD
Code cuDeviceGetDefaultMemPool(void** pool, int device) { return *pool = &the_context, 0; }
Code cuMemPoolSetAttribute(void* pool, int which, uint64_t* value) { return which == 4 && *value == UINT64_MAX ? 0 : 1; }
Code cuMemPoolGetAttribute(void* pool, int which, uint64_t* value) { return *value = which == 5 ? 700 : 300, 0; }
Code cuMemPoolTrimTo(void* pool, size_t keep) { return fprintf(stderr, "trimmed\n"), 0; }
Code cuMemAllocAsync(Address* at, size_t bytes, void* stream) { return cuMemAlloc_v2(at, bytes); }
Code cuMemFreeAsync(Address at, void* stream) { return cuMemFree_v2(at); }
#endif
Code cuMemHostAlloc(void** at, size_t bytes, unsigned flags)
{
    NEEDS_CONTEXT;
    return *at = malloc(bytes), live++, 0;
}
Code cuMemFreeHost(void* at) { return free(at), live--, 0; }

// A copy, a fill, or relu with its three parameters.
struct Work {
    enum { COPY, FILL, RELU } what;
    void* to;
    const void* from;
    int64_t n;
    int value;
};
struct Graph {
    struct Work works[16];
    int count;
};
static void* capturing;
static struct Graph captured;

static Code run(struct Work w)
{
    if (w.what == COPY)
        memcpy(w.to, w.from, w.n);
    else if (w.what == FILL)
        memset(w.to, w.value, w.n);
    else
        for (int64_t i = 0; i < w.n; i++) {
            const float x = ((const float*)w.from)[i];
            ((float*)w.to)[i] = x > 0 ? x : 0;
        }
    return 0;
}
static Code give(void* stream, struct Work w)
{
    if (stream != capturing)
        return run(w);
    captured.works[captured.count++] = w;
    return 0;
}
Code cuStreamBeginCapture_v2(void* stream, int mode_)
{
    NEEDS_CONTEXT;
    if (mode("no_capture") || mode_ != 1 || capturing)
        return 900;
    return capturing = stream, captured.count = 0, 0;
}
Code cuStreamEndCapture(void* stream, void** graph)
{
    NEEDS_CONTEXT;
    if (!capturing || capturing != stream)
        return 401;
    capturing = NULL;
    *graph = memcpy(malloc(sizeof captured), &captured, sizeof captured);
    return graphs++, 0;
}
Code cuGraphInstantiateWithFlags(void** ready, void* graph, unsigned long long flags)
{
    NEEDS_CONTEXT;
    if (mode("no_instantiate") || flags)
        return 2;
    *ready = memcpy(malloc(sizeof captured), graph, sizeof captured);
    return graphs++, 0;
}
Code cuGraphDestroy(void* graph) { return free(graph), graphs--, 0; }
Code cuGraphExecDestroy(void* ready) { return free(ready), graphs--, 0; }
Code cuGraphLaunch(struct Graph* ready, void* stream)
{
    NEEDS_CONTEXT;
    if (!stream || stream == capturing)
        return 400;
    for (int i = 0; i < ready->count; i++)
        run(ready->works[i]);
    return 0;
}

Code cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream)
{
    NEEDS_CONTEXT;
    return give(stream, (struct Work){COPY, (void*)to, from, bytes, 0});
}
Code cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream)
{
    NEEDS_CONTEXT;
    return give(stream, (struct Work){COPY, to, (void*)from, bytes, 0});
}
Code cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream)
{
    NEEDS_CONTEXT;
    return give(stream, (struct Work){COPY, (void*)to, (void*)from, bytes, 0});
}
Code cuMemsetD8Async(Address at, unsigned char value, size_t bytes, void* stream)
{
    NEEDS_CONTEXT;
    return give(stream, (struct Work){FILL, (void*)at, NULL, bytes, value});
}

Code cuModuleLoadDataEx(void** module, const char* image, unsigned n, int* options, void** values)
{
    NEEDS_CONTEXT;
    const int machine = memcmp(image, "\x7f" "ELF", 4) == 0;
    const char* target = machine ? NULL : strstr(image, ".target ");
    if (mode("refuse_text") && !machine)
        return snprintf(values[0], (size_t)values[1], "ptxas application ptx input, line 9; fatal"), 218;
    if (mode("refuse_machine") && machine)
        return 209;
    fprintf(stderr, "loaded %.*s\n", machine ? 12 : 14, machine ? "machine code" : target ? target : "text without a target");
    *module = strdup("module");
    modules++;
    return 0;
}
Code cuModuleUnload(void* module) { return free(module), modules--, 0; }
Code cuModuleGetFunction(void** function, void* module, const char* name) { return *function = strdup(name), 0; }
Code cuFuncGetAttribute(int* value, int which, void* function) { return *value = which == 1 ? 1024 : 0, 0; }
Code cuFuncSetAttribute(void* function, int which, int value) { return which == 8 && value == 162 * 1024 ? 0 : 1; }

Code cuLaunchKernel(
    const char* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
    void* stream, void** parameters, void** extra)
{
    NEEDS_CONTEXT;
    if (gx != 3 || gy != 1 || gz != 1 || bx != 256 || by != 1 || bz != 1 || shared != 64 || extra)
        return 1;
    if (!strstr(function, "relu_forwardIf"))
        return 719;
    // Copies of the parameters' values: they are the caller's again when this returns.
    return give(stream, (struct Work){RELU, *(void**)parameters[1], *(void**)parameters[0], *(int64_t*)parameters[2], 0});
}
