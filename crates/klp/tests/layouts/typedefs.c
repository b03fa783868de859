// expect: layout counter: it was unsigned int (4 bytes) at byte 0, and is long unsigned int (8 bytes) at byte 0; the size goes from 4 to 8 bytes
// expect: layout nameless.y: the patch adds it: int (4 bytes) at byte 4; the size goes from 4 to 8 bytes
// expect: follows struct a: counter, nameless
#ifdef PATCHED
typedef unsigned long counter;
#else
typedef unsigned int counter;
#endif
typedef struct {
	int x;
#ifdef PATCHED
	int y;
#endif
} nameless;
struct a {
	counter count;
	nameless n;
};

int f(struct a *a)
{
	return a->n.x;
}
