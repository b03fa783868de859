// expect: layout struct a.y: the patch adds it: long int (8 bytes) at byte 8; the size goes from 8 to 16 bytes
// expect: follows struct b: struct a
// expect: follows struct c: struct b
// expect: follows union d: struct a
// struct e only points to it.
struct a {
	long x;
#ifdef PATCHED
	long y;
#endif
};
struct b {
	struct a in[2];
	int last;
};
struct c {
	int first;
	struct b b;
};
union d {
	struct a a;
	int x;
};
struct e {
	struct a *a;
	union d *d;
};

int f(struct c *c, union d *d, struct e *e)
{
	return c->b.last + d->x + e->a->x;
}
