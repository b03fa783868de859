// expect: changed edited
// expect: outside __livepatch_original_0_edited, take
// Lines shift above WARN, might_sleep and lockdep's warnings: only the edited function changes.
void __might_sleep(const char *, int);
void lockdep_rcu_suspicious(const char *, const int, const char *);
void __warn_printk(const char *, ...);
void take(int (*)(int));

#define WARN_ON(x) ({ if (__builtin_expect(!!(x), 0)) \
	asm volatile("1: ud2\n.pushsection __bug_table,\"aw\"\n2: .long 1b - 2b\n.long %c0 - 2b\n" \
		     ".word %c1\n.word 0\n.popsection" : : "i" (__FILE__), "i" (__LINE__)); })

int edited(int x)
{
#ifdef PATCHED
	if (x > 5)
		return 3;
	if (x == 4)
		take(edited);
#endif
	return x;
}

void sleeps(int x)
{
	__might_sleep(__FILE__, __LINE__);
	WARN_ON(x > 3);
}

int suspicious(int x)
{
	if (x)
		lockdep_rcu_suspicious("unit.c", __LINE__, "suspicious");
	return x;
}

int asserts(int x)
{
	if (__builtin_expect(!x, 0))
		__warn_printk("RTNL: assertion failed at %s (%d)\n", "net/core/dev.c", __LINE__);
	return x + 1;
}
