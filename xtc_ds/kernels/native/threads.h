/* Chooses the number of threads, and synchronizes them. */
#ifndef XTC_THREADS_H
#define XTC_THREADS_H

#include <sched.h>
#include <stdint.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

static int workers(int64_t operations, int threads)
{
    const int64_t useful = operations / 200000 + 1; /* with less work, waking a second thread costs more than it gains */
    return threads < 1 ? 1 : useful < threads ? (int)useful : threads;
}

/* Barrier: spins until all threads have arrived, as sleeping would take longer; yields after a while, in case cores are missing. */
static void meet(int *arrived, int all)
{
    __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
    for (int turn = 0; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < all; turn++)
        if (turn > 2000)
            sched_yield();
}

/* The index of this thread and the number of threads. */
static void whoami(int *me, int *all)
{
    *me = 0, *all = 1;
#if defined(_OPENMP)
    *me = omp_get_thread_num(), *all = omp_get_num_threads();
#endif
}

/*
 * Dynamic scheduling: claims the next `step` of `all` pieces of work as [first, last), so that idle threads take over the work of
 * delayed ones. Returns 0 if nothing is left.
 */
static int take(int64_t *taken, int64_t step, int64_t all, int64_t *first, int64_t *last)
{
    *first = __atomic_fetch_add(taken, step, __ATOMIC_RELAXED);
    *last = *first + step < all ? *first + step : all;
    return *first < all;
}

#endif
