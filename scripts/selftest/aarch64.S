/* As x86_64.S says. */
    .globl _start
_start:
    sub sp, sp, #0x8000
    mov x19, sp             /* where the answers begin, */
    mov x20, x19            /* where the next one goes */
    adr x21, table
next:
    ldp x8, x0, [x21]
    ldp x1, x2, [x21, #16]
    ldp x3, x4, [x21, #32]
    ldr x5, [x21, #48]
    add x21, x21, #56
    lsr x9, x8, #16
    cbz x9, call
    and x9, x8, #0xff
    cbz x9, forks
    cmp x9, #1
    b.eq burn
    cmp x9, #2
    b.eq print
touch:
    strb w8, [x0]
    add x0, x0, #0x1000
    cmp x0, x1
    b.lo touch
    mov x0, #0
    b keep
call:
    svc #0
keep:
    str x0, [x20], #8
    b next
forks:
    mov x22, #0
    mov x23, x0
1:  mov x0, #17             /* clone with SIGCHLD */
    mov x1, #0
    mov x2, #0
    mov x3, #0
    mov x4, #0
    mov x8, #220
    svc #0
    cbz x0, sleeper
    tbnz x0, #63, 2f
    add x22, x22, #1
    cmp x22, x23
    b.lo 1b
2:  mov x0, x22
    b keep
sleeper:
    mov x0, #0              /* ppoll of nothing, without end */
    mov x1, #0
    mov x2, #0
    mov x3, #0
    mov x8, #73
    svc #0
    b sleeper
burn:
    subs x0, x0, #1
    b.ne burn
    b keep
print:
    mov x9, x19
    add x10, x19, #0x1000
1:  ldr x11, [x9], #8
    mov x12, #16
2:  ror x11, x11, #60
    and x13, x11, #15
    add x13, x13, #97
    strb w13, [x10], #1
    subs x12, x12, #1
    b.ne 2b
    cmp x9, x20
    b.lo 1b
    add x1, x19, #0x1000
    sub x2, x10, x1
    mov x0, #1
    mov x8, #64             /* write */
    svc #0
    b next
    .balign 8
table:
