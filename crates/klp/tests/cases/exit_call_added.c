// expect: changed f
// vmlinux has no exit code: what would have called it is dropped when it is linked.
int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	return x + 1;
}

#ifdef PATCHED
static void __attribute__((section(".exit.text"))) stop(void)
{
	f(1);
}
static void (*__exitcall_stop)(void) __attribute__((used, section(".exitcall.exit"))) = stop;
#endif
