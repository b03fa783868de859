// expect: changed f
// expect: outside printk
// printk is told a line only behind a file's name.
int printk(const char *, ...);

void f(void)
{
#ifdef PATCHED
	printk("%s limit %d\n", "driver", 17);
#else
	printk("%s limit %d\n", "driver", 16);
#endif
}
