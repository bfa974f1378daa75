/* The program of doctor's self-test: carries out the table of steps that stands behind it. A step is a number
   and six arguments, eight bytes each; sandbox/program.py writes it. Numbers below 0x10000 are system calls,
   whose answers are kept; the others are explained there. */
    .globl _start
_start:
    sub $0x8000, %rsp
    mov %rsp, %rbx          /* where the answers begin, */
    mov %rbx, %r12          /* where the next one goes */
    lea table(%rip), %r13
next:
    mov (%r13), %rax
    mov 8(%r13), %rdi
    mov 16(%r13), %rsi
    mov 24(%r13), %rdx
    mov 32(%r13), %r10
    mov 40(%r13), %r8
    mov 48(%r13), %r9
    add $56, %r13
    cmp $0x10000, %rax
    je forks
    cmp $0x10001, %rax
    je burn
    cmp $0x10002, %rax
    je print
    cmp $0x10003, %rax
    je touch
    syscall
keep:
    mov %rax, (%r12)
    add $8, %r12
    jmp next
forks:
    xor %ebp, %ebp
    mov %rdi, %r14
1:  mov $57, %eax           /* fork */
    syscall
    test %rax, %rax
    jz sleeper
    js 2f
    inc %rbp
    cmp %r14, %rbp
    jb 1b
2:  mov %rbp, %rax
    jmp keep
sleeper:
    mov $34, %eax           /* pause */
    syscall
    jmp sleeper
burn:
    dec %rdi
    jnz burn
    xor %eax, %eax
    jmp keep
touch:
    movb $1, (%rdi)
    add $4096, %rdi
    cmp %rsi, %rdi
    jb touch
    xor %eax, %eax
    jmp keep
print:
    mov %rbx, %rsi
    lea 0x1000(%rbx), %rdi
1:  mov (%rsi), %rax
    mov $16, %ecx
2:  rol $4, %rax
    mov %al, %dl
    and $15, %dl
    add $'a', %dl
    mov %dl, (%rdi)
    inc %rdi
    dec %ecx
    jnz 2b
    add $8, %rsi
    cmp %r12, %rsi
    jb 1b
    lea 0x1000(%rbx), %rsi
    mov %rdi, %rdx
    sub %rsi, %rdx
    mov $1, %edi
    mov $1, %eax            /* write */
    syscall
    jmp next
    .balign 8
table:
