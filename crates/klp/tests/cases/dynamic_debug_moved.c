// expect: changed f
// Lines shift above a descriptor of dynamic debug: neither data nor its function changes.
struct descriptor { const char *function, *format; unsigned line; };
void __dynamic_pr_debug(struct descriptor *, const char *);

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return -22;

#endif
	return x;
}

void says(void)
{
	static struct descriptor __attribute__((section("__dyndbg"), used))
		__UNIQUE_ID_ddebug12 = { __func__, "hello", __LINE__ };
	__dynamic_pr_debug(&__UNIQUE_ID_ddebug12, "hello");
}
